"""References that other programs hold, which the manager only counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tefmanager.ctl import resource_keys
from tefmanager.ctl.console import Session
from tefmanager.etcd import tree
from tefmanager.etcd.http import HttpClient

_LOCK_ID = re.compile(r"(?P<client>.*)~(?P<time>[0-9]{1,18})~[0-9]{1,18}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A lock key of another program: of which resource, whose, and since when (unix time)."""

    resource: str
    lock: str
    client: str
    since: int


def is_usual(lock: str) -> bool:
    """Tell whether the last part of a lock key has the form that names its holder and its time."""
    return _LOCK_ID.fullmatch(lock) is not None


def foreign_locks(paths: Iterable[str], own_prefix: str) -> list[Foreign]:
    """Return the lock keys among paths below the base that are not the manager's, oldest first."""
    found = []
    for path in paths:
        at = tree.resource_key(path)
        match = None if at is None or not at.is_lock else _LOCK_ID.fullmatch(at.lock_id)
        if at is not None and match is not None and tree.lock_attempt(own_prefix, at.lock_id) is None:
            found.append(Foreign(at.name, at.lock_id, match["client"], int(match["time"])))
    return sorted(found, key=lambda each: (each.since, each.resource, each.lock))


def find(session: Session, wanted: Callable[[Foreign], bool], *, release: bool = False) -> list[Foreign]:
    """Return the matching lock keys; ``release``: delete them, and leave out those that were gone already.

    Can be called once in a process. Raises `CtlError` if Etcd does not answer.
    """
    config = session.config()

    async def work(http: HttpClient) -> list[Foreign]:
        keys = await resource_keys.chosen(http, config)
        found = [each for each in foreign_locks(await keys.read(), config.name_prefix) if wanted(each)]
        return [each for each in found if not release or await keys.release(each.resource, each.lock)]

    return resource_keys.run(config, session.patience, work)


def name_others(session: Session, explanation: Mapping[str, Any]) -> None:
    """Add to each reason for which a task waits the names of other programs that hold its resource.

    Asks Etcd only if there are any. Raises `CtlError` if it does not answer.
    """
    reasons = [reason for reason in explanation["reasons"] if reason.get("others")]
    if not reasons:
        return
    names = {reason["resource"] for reason in reasons}
    found = find(session, lambda each: each.resource in names)
    for reason in reasons:
        held = [each for each in found if each.resource == reason["resource"]]
        reason["held_by_others"] = [{"client": each.client, "since": each.since} for each in held]
