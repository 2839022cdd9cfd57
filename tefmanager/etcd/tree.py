"""Pure: the names of Etcd's keys below the base, and what their values mean for a resource.

A *path* is a key without the base and the following slash, such as ``db/main/ref_count``. It consists of
the *name* of a resource (which may itself contain slashes) and a *field* (``ref_count``,
``windows/7/limit``, ``locks/tef.dev:12~1700000000~3``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from tefmanager.core.model.resources import ANY_DAY, UNLIMITED, Resource, Window
from tefmanager.etcd.daytime import minute_of

REF_COUNT = "ref_count"
REF_LIMIT = "ref_limit"
AVAILABLE = "available"
SOURCE = "source"
LOCKS = "locks"
WINDOWS = "windows"

FIELDS = frozenset({REF_COUNT, REF_LIMIT, AVAILABLE, SOURCE})
"""Fields of a resource that are single keys."""

WINDOW_FIELDS = frozenset({"start_time", "end_time", "day_of_week", AVAILABLE, "limit"})
"""Fields of a window."""

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LOCK_ID = re.compile(r"(.*):([0-9]{1,18})~[0-9]{1,18}~[0-9]{1,18}", re.DOTALL)
_UNSAFE = re.compile(r"[%/\x00-\x1f\x7f]|^_")


class ResourceKey(Struct, frozen=True):
    """The meaning of a path: a resource's name and its field."""

    name: str
    field: str

    @property
    def is_lock(self) -> bool:
        """Tell whether this is a lock key, which says nothing about the resource itself."""
        return self.field.startswith(LOCKS + "/")

    @property
    def is_window(self) -> bool:
        """Tell whether this is part of a window."""
        return self.field.startswith(WINDOWS + "/")

    @property
    def lock_id(self) -> str:
        """Return a lock key's last part."""
        return self.field.removeprefix(LOCKS + "/")


def resource_key(path: str) -> ResourceKey | None:
    """Return the meaning of a path, or None if it is not one of ours.

    The longest name that a known field can follow counts: in ``a/locks/b/locks/c`` it is ``a/locks/b``.
    """
    parts = path.split("/")
    cut = _field_begins(parts)
    name = "/".join(parts[:cut])
    return ResourceKey(name, "/".join(parts[cut:])) if name else None


def _field_begins(parts: list[str]) -> int:
    if parts[-3:-2] == [WINDOWS] and parts[-1] in WINDOW_FIELDS and "/".join(parts[:-3]):
        return len(parts) - 3
    if parts[-1] in FIELDS:
        return len(parts) - 1
    locks = [index for index, part in enumerate(parts[:-1]) if part == LOCKS]
    return locks[-1] if locks else 0


def is_lock_key(key: bytes) -> bool:
    """Tell, without parsing it, whether a key certainly is a lock key; may miss some."""
    *_, folder, last = (b"", b"", *key.rsplit(b"/", 2))
    return folder == LOCKS.encode() and b"~" in last


def client_id(prefix: str, attempt: int) -> str:
    """Return the holder's id in a lock key: ``<name prefix>:<attempt id>``.

    In the prefix, what can't be in one part of a key is percent-encoded: a slash, control characters, and a
    leading ``_``, which hides a key in the v2 API.
    """
    return f"{safe(prefix)}:{attempt}"


def safe(prefix: str) -> str:
    """Return a name prefix in the form that part of a key can have."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", prefix)


def lock_field(prefix: str, attempt: int, unix_time: float, count: int) -> str:
    """Return the field of a lock key: ``locks/<client id>~<unix time>~<count>``."""
    return f"{LOCKS}/{client_id(prefix, attempt)}~{int(unix_time)}~{count}"


def lock_attempt(prefix: str, lock_id: str) -> int | None:
    """Return the attempt of a lock key, or None if the key does not have this name prefix."""
    found = _LOCK_ID.fullmatch(lock_id)
    return int(found[2]) if found and found[1] == safe(prefix) else None


def number(text: str | None, missing: int = 0) -> int | None:
    """Return a whole number from Etcd: ``missing`` for None, and None for text that is no number."""
    if text is None:
        return missing
    text = text.strip()
    return int(text) if _NUMBER.fullmatch(text) else None


def resource(name: str, fields: Mapping[str, str]) -> Resource | None:
    """Return the resource that these fields describe (locks are ignored), or None if it has no entry."""
    own = {field: value for field, value in fields.items() if not field.startswith(LOCKS + "/")}
    if not own:
        return None
    faults: list[str] = []
    held = _count(own.get(REF_COUNT), faults)
    limit = _limit(REF_LIMIT, own.get(REF_LIMIT), faults)
    available = _available(AVAILABLE, own.get(AVAILABLE), faults)
    windows = tuple(_windows(own, faults))
    # A count that can't be read can't be raised, so no limit and no window opens such a resource.
    unknown = held is None
    return Resource(
        name=name,
        held=held or 0,
        limit=0 if unknown or limit is None else limit,
        available=not unknown and available is True,
        windows=windows,
        faults=tuple(faults),
        closed=len(windows) < len(_window_ids(own)),
    )


def _count(text: str | None, faults: list[str]) -> int | None:
    count = number(text)
    if count is None or count < 0:
        faults.append(f"{REF_COUNT} is {_shown(text)}, expected a whole number, 0 or more")
        return None
    return count


def _limit(field: str, text: str | None, faults: list[str]) -> int | None:
    limit = number(text)
    if limit is None or limit < UNLIMITED:
        faults.append(f"{field} is {_shown(text)}, expected a whole number, or -1 for no limit")
        return None
    return limit


def _available(field: str, text: str | None, faults: list[str]) -> bool | None:
    available = number(text, missing=1)
    if available not in (0, 1):
        faults.append(f"{field} is {_shown(text)}, expected 1 or 0")
        return None
    return available == 1


def _shown(text: str | None) -> str:
    return repr(text if text is None or len(text) <= 40 else text[:40] + "…")


def _windows(fields: Mapping[str, str], faults: list[str]) -> Iterable[Window]:
    by_id: dict[str, dict[str, str]] = {}
    for field, value in sorted(fields.items()):
        if field.startswith(WINDOWS + "/"):
            window_id, _, part = field.removeprefix(WINDOWS + "/").rpartition("/")
            by_id.setdefault(window_id, {})[part] = value
    for window_id, parts in by_id.items():
        if (window := _window(window_id, parts, faults)) is not None:
            yield window


def _window_ids(fields: Mapping[str, str]) -> set[str]:
    begin = WINDOWS + "/"
    return {field.removeprefix(begin).rpartition("/")[0] for field in fields if field.startswith(begin)}


def _window(window_id: str, parts: Mapping[str, str], faults: list[str]) -> Window | None:
    at = f"{WINDOWS}/{window_id}"
    found: list[str] = []
    start = _time(f"{at}/start_time", parts.get("start_time"), 24 * 60 - 1 / 60, found)
    end = _time(f"{at}/end_time", parts.get("end_time"), 24 * 60, found)
    day = _day(f"{at}/day_of_week", parts.get("day_of_week"), found)
    available = _available(f"{at}/available", parts.get(AVAILABLE), found)
    limit = _limit(f"{at}/limit", parts["limit"], found) if "limit" in parts else None
    faults.extend(f"{fault}: the resource is closed" for fault in found)
    if found or start is None or end is None or day is None or available is None:
        return None
    return Window(window_id, start, end, day, available, limit)


def _time(field: str, text: str | None, latest: float, faults: list[str]) -> float | None:
    minute = None if text is None else minute_of(text)
    if minute is None or minute > latest:
        shown = "missing" if text is None else _shown(text)
        faults.append(f"{field} is {shown}, expected hour:minute")
        return None
    return minute


def _day(field: str, text: str | None, faults: list[str]) -> int | None:
    day = number(text, missing=ANY_DAY)
    if day is None or not ANY_DAY <= day <= 6:
        faults.append(f"{field} is {_shown(text)}, expected 0 (Sunday) to 6, or -1 for any day")
        return None
    return day
