"""Parses the messages in the manager's queue: bytes in, values out, with what is wrong in a bad message.

Nothing here raises for a bad message: it becomes an `Invalid`, which says what to log and whether the
message goes to the rejected queue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LONGEST_FIELD, LoggedEvent, cut, quoting, readable
from tefmanager.protocol.fields import (
    INTEGER,
    LONGEST_LIST,
    LONGEST_NAME,
    LONGEST_VALUE,
    Bad,
    Fields,
    check_length,
    flag_of,
    is_missing,
    read_fields,
    read_list,
    shown,
    text_of,
    type_of,
    value_of,
    whole_number_of,
)
from tefmanager.protocol.verdicts import NO_VERDICT, Verdict, read_verdict

LONGEST_REASON = 1000
"""The most characters of a reason; a rejected message's header contains fewer."""

MOST_RESOURCES = 1000
"""The most names in a task's resources."""

MOST_SUITES = 1000
"""The most suites in a control message."""

LONGEST_PROGRESS = 200
"""How many characters of a worker's progress are kept."""

DEFAULT_PRIORITY = 1.0

NO_OTHERS: Mapping[str, Any] = MappingProxyType({})


class TaskMessage(Struct, frozen=True):
    """A task, as far as the manager reads it. ``resources`` are sorted, each once."""

    guid: str
    task_type: str
    priority: float
    resources: tuple[str, ...]
    suite: str | None
    time_limit: float | None


class WorkerMessage(Struct, frozen=True):
    """A ``worker_status``.

    Attributes:
        name, exchange_name, status, worker_type: as the worker says.
        task: the guid that it names, or None.
        attempt: the number of the attempt that it names, or None.
        verdict: what it says about a task that it ends.
        progress: its progress with its task, in its own words, or None.
        limits: it itself ends tasks that exceed their time limit.
        faults: descriptions of fields that can't be used; all others count.
    """

    name: str
    exchange_name: str
    status: str
    worker_type: str | None = None
    task: str | None = None
    attempt: int | None = None
    verdict: Verdict = NO_VERDICT
    progress: str | None = None
    limits: bool = False
    faults: tuple[str, ...] = ()


class ManagerState(StrEnum):
    """The states for ``set_state``. Only ``running`` dispatches; messages are handled in all three."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class SetState(Struct, frozen=True):
    """``set_state``."""

    state: ManagerState


class GetWorkers(Struct, frozen=True):
    """``get_workers``."""


class DispatchTasks(Struct, frozen=True):
    """``dispatch_tasks``; ``probe`` marks one that the manager sent to itself."""

    probe: str | None = None


class SuiteCommand(Struct, frozen=True):
    """``pause_suite``, ``ready_suite`` or ``stop_suite`` (``command``), with guids of suites."""

    command: str
    suite: str
    more: tuple[str, ...] = ()

    @property
    def suites(self) -> tuple[str, ...]:
        """All suites, each once."""
        return tuple(dict.fromkeys((self.suite, *self.more)))


class Invalid(Struct, frozen=True):
    """A message that can't be used.

    Attributes:
        line: what to log; its text is also the error reply.
        rejected: why it goes to the rejected queue, or None if it does not.
    """

    line: LoggedEvent
    rejected: str | None = None


Parsed: TypeAlias = (
    TaskMessage | WorkerMessage | SetState | GetWorkers | DispatchTasks | SuiteCommand | Invalid
)


_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
"""Matches in linear time, because each character can be matched in only one way."""

Other = TypeVar("Other")
"""The content of message types that only the caller knows."""


def parse(
    body: bytes,
    size_limit: int,
    excerpt: int = LONGEST_FIELD,
    others: Mapping[str, Callable[[Fields, bytes], Other | Invalid]] = NO_OTHERS,
) -> Parsed | Other:
    """Return the content of a message of at most ``size_limit`` bytes.

    The log line for a bad message quotes at most ``excerpt`` characters of it. ``others``: parsers for
    further message types, by type.
    """
    found = _parsed(body, size_limit, others)
    if isinstance(found, Invalid):
        return Invalid(quoting(found.line, excerpt), found.rejected)
    return found


def _parsed(
    body: bytes, size_limit: int, others: Mapping[str, Callable[[Fields, bytes], Other | Invalid]]
) -> Parsed | Other:
    if len(body) > size_limit:
        return _not_json(f"{len(body)} bytes, at most {size_limit} are accepted", body)
    try:
        body.decode()
        fields = read_fields(body)
        kind = type_of(fields)
        other = others.get(kind)
        return _PARSERS.get(kind, _unknown)(fields, body) if other is None else other(fields, body)
    except UnicodeDecodeError as error:
        return _not_json(f"not UTF-8: {error.reason} at byte {error.start}", body)
    except msgspec.ValidationError as error:
        return _not_json(f"not a JSON object that can be read: {error}", body)
    except (msgspec.DecodeError, RecursionError) as error:
        return _not_json(str(error), body)


def _not_json(reason: str, body: bytes) -> Invalid:
    reason = cut(reason, LONGEST_REASON)
    return Invalid(catalogue.MESSAGE_INVALID_JSON(reason, readable(body)), rejected=reason)


def _unknown(fields: Fields, body: bytes) -> Parsed:
    found = "missing" if is_missing(fields.type) else shown(fields.type)
    reason = f"type {found!r} is unknown to the manager"
    return Invalid(catalogue.UNKNOWN_TYPE(found, readable(body)), rejected=cut(reason, LONGEST_REASON))


# --- tasks -----------------------------------------------------------------------------------


def _task(fields: Fields, body: bytes) -> Parsed:
    try:
        return TaskMessage(
            guid=_name(_guid(fields.guid, "guid"), "guid"),
            task_type=_name(value_of(fields.task_type, "task_type"), "task_type"),
            priority=_priority(value_of(fields.priority, "priority")),
            resources=_resources(fields.resources),
            suite=_optional_name(_guid(fields.suite_guid, "suite_guid"), "suite_guid"),
            time_limit=_time_limit(
                None if is_missing(fields.time_limit) else value_of(fields.time_limit, "time_limit")
            ),
        )
    except Bad as bad:
        return Invalid(catalogue.TASK_REJECTED(str(bad), readable(body)), rejected=str(bad))


def _guid(raw: msgspec.Raw, field: str) -> object:
    """Return a field's value that may be a guid; an integer becomes its decimal text."""
    check_length(raw, field, LONGEST_VALUE)
    text = bytes(raw)
    return text.decode() if INTEGER.fullmatch(text) else value_of(raw, field)


def _name(value: object, field: str) -> str:
    if value is None:
        raise Bad(f"{field} is missing")
    if not isinstance(value, str):
        raise Bad(f"{field} is {_kind(value)}, expected a string")
    size = len(value.encode())
    if not 1 <= size <= LONGEST_NAME:
        raise Bad(f"{field} has {size} bytes, expected 1 to {LONGEST_NAME}")
    if "\0" in value:
        raise Bad(f"{field} has a NUL character or one half of a surrogate pair in it")
    return value


def _optional_name(value: object, field: str) -> str | None:
    return None if value is None else _name(value, field)


def _priority(value: object) -> float:
    """Return a priority. Queuebert sends it as a string."""
    if value is None:
        return DEFAULT_PRIORITY
    return _number(_from_string(value, "priority"), "priority")


def _from_string(value: object, field: str) -> object:
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value.strip()):
        raise Bad(f"{field} is a string that is no number")
    return float(value)


def _time_limit(value: object) -> float | None:
    if value is None:
        return None
    seconds = _number(_from_string(value, "time_limit"), "time_limit")
    if seconds <= 0:
        raise Bad(f"time_limit is {seconds:g}, expected seconds greater than 0")
    return seconds


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Bad(f"{field} is {_kind(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Bad(f"{field} is out of range")
    return number


def _resources(raw: msgspec.Raw) -> tuple[str, ...]:
    """Return the names from a list, or from one string with ``|`` between them; sorted, each once."""
    names = _listed(raw) if bytes(memoryview(raw)[:1]) == b"[" else _split(raw)
    if len(names) > MOST_RESOURCES:
        raise Bad(f"resources has more than {MOST_RESOURCES} names")
    return tuple(sorted({_name(name, "a name in resources") for name in names}))


def _listed(raw: msgspec.Raw) -> list[object]:
    check_length(raw, "resources", LONGEST_LIST)
    found = read_list(raw)[: MOST_RESOURCES + 1]
    return [value_of(name, "a name in resources") for name in found]


def _split(raw: msgspec.Raw) -> list[object]:
    value = value_of(raw, "resources", LONGEST_LIST)
    if value is not None and not isinstance(value, str):
        raise Bad(f"resources is {_kind(value)}, expected a list of names")
    return [name for name in (value or "").split("|", MOST_RESOURCES) if name]


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "an object")


# --- workers ---------------------------------------------------------------------------------


def _worker(fields: Fields, body: bytes) -> Parsed:
    who = fields.exchange_name if is_missing(fields.name) else fields.name
    named = "" if is_missing(who) else shown(who)
    if is_missing(fields.name):
        return Invalid(catalogue.MISSING_NAME(named))
    if is_missing(fields.exchange_name):
        return Invalid(catalogue.MISSING_EXCHANGE_NAME(named))
    if is_missing(fields.status):
        return Invalid(catalogue.MISSING_STATUS(named))
    verdict, faults = read_verdict(fields)
    try:
        return WorkerMessage(
            name=_name(value_of(fields.name, "name"), "name"),
            exchange_name=_name(value_of(fields.exchange_name, "exchange_name"), "exchange_name"),
            status=_name(value_of(fields.status, "status"), "status"),
            worker_type=_optional_name(value_of(fields.worker_type, "worker_type"), "worker_type"),
            task=None if is_missing(fields.task) else _name(_guid(fields.task, "task"), "task"),
            attempt=whole_number_of(fields.attempt),
            verdict=verdict,
            progress=text_of(fields.progress, LONGEST_PROGRESS),
            limits=flag_of(fields.limits) is True,
            faults=faults,
        )
    except Bad as bad:
        return Invalid(catalogue.INVALID_FIELD(named, str(bad)))


def guid_of(body: bytes) -> str | None:
    """Return the guid in a task's message, or None if it is no such message."""
    task = parse(body, len(body))
    return task.guid if isinstance(task, TaskMessage) else None


# --- control messages ------------------------------------------------------------------------


def _set_state(fields: Fields, body: bytes) -> Parsed:
    if is_missing(fields.data):
        return Invalid(catalogue.NO_DATA(readable(body)))
    state = shown(fields.data)
    if state not in set(ManagerState):
        return Invalid(catalogue.INVALID_STATE(state, readable(body)))
    return SetState(ManagerState(state))


def _dispatch_tasks(fields: Fields, body: bytes) -> Parsed:
    return DispatchTasks(None if is_missing(fields.probe) else shown(fields.probe))


def _suite(fields: Fields, body: bytes) -> Parsed:
    if is_missing(fields.data):
        return Invalid(catalogue.NO_DATA(readable(body)))
    try:
        first, *more = _suites(fields.data)
        return SuiteCommand(type_of(fields), first, tuple(more))
    except Bad as bad:
        return Invalid(catalogue.INVALID_DATA(str(bad), readable(body)))


def _suites(raw: msgspec.Raw) -> list[str]:
    """Return the guids from a list, or the single guid."""
    if bytes(memoryview(raw)[:1]) != b"[":
        return [_name(_guid(raw, "data"), "data")]
    check_length(raw, "data", LONGEST_LIST)
    found = read_list(raw)[: MOST_SUITES + 1]
    if not 1 <= len(found) <= MOST_SUITES:
        raise Bad(f"data is a list of {len(found)} or more suites, expected 1 to {MOST_SUITES}")
    return [_name(_guid(each, "a suite in data"), "a suite in data") for each in found]


_PARSERS = {
    "task": _task,
    "worker_status": _worker,
    "set_state": _set_state,
    "get_workers": lambda fields, body: GetWorkers(),
    "dispatch_tasks": _dispatch_tasks,
    "pause_suite": _suite,
    "ready_suite": _suite,
    "stop_suite": _suite,
}
