"""What arrives on the manager's queue: bytes in, values out, and what is wrong with a bad message.

Nothing here raises for a bad message: it becomes an `Invalid` that says what to log and whether the
message belongs in the queue of rejected ones.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from tefmanager import loglines
from tefmanager.core.values import ManagerState
from tefmanager.loglines import Line, readable
from tefmanager.questions import OF_A_TASK, QUESTIONS, Question, read_question

LONGEST_NAME = 255
"""Bytes of UTF-8 in a string that names something: what fits in an AMQP short string."""

DEFAULT_PRIORITY = 1.0


class TaskMessage(Struct, frozen=True):
    """A task, as far as the manager looks at it. ``resources`` are sorted, each once."""

    guid: str
    task_type: str
    priority: float
    resources: tuple[str, ...]
    suite: str | None
    time_limit: float | None


class WorkerMessage(Struct, frozen=True):
    """A ``worker_status``; ``task`` is the guid it named, if any."""

    name: str
    exchange_name: str
    status: str
    worker_type: str | None
    task: str | None


class SetState(Struct, frozen=True):
    """``set_state``."""

    state: ManagerState


class GetWorkers(Struct, frozen=True):
    """``get_workers``."""


class DispatchTasks(Struct, frozen=True):
    """``dispatch_tasks``; ``probe`` marks one that the manager sent to itself."""

    probe: str | None = None


class SuiteCommand(Struct, frozen=True):
    """``pause_suite``, ``ready_suite`` or ``stop_suite`` (``command``), with the suite's guid."""

    command: str
    suite: str


class Invalid(Struct, frozen=True):
    """A message that can't be used.

    Attributes:
        line: what to log; its text is the error reply as well.
        rejected: why it belongs in the queue of rejected messages, or None where it does not.
    """

    line: Line
    rejected: str | None = None


Parsed: TypeAlias = (
    TaskMessage | WorkerMessage | SetState | GetWorkers | DispatchTasks | SuiteCommand | Question | Invalid
)


class _Bad(Exception):
    """A field that is missing or of the wrong kind, in words."""


class _Fields(msgspec.Struct):
    """The fields we look at; all others are skipped, which leaves them opaque and costs little."""

    type: Any = None
    guid: Any = None
    task_type: Any = None
    priority: Any = None
    resources: Any = None
    time_limit: Any = None
    suite_guid: Any = None
    name: Any = None
    worker_type: Any = None
    exchange_name: Any = None
    status: Any = None
    task: Any = None
    data: Any = None
    probe: Any = None


_decode = msgspec.json.Decoder(_Fields).decode

_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", re.ASCII)

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes, size_limit: int) -> Parsed:
    """Return what a message of at most ``size_limit`` bytes says."""
    if len(body) > size_limit:
        return _not_json(f"{len(body)} bytes, at most {size_limit} are taken", body)
    try:
        body.decode()
        fields = _fields(body)
    except UnicodeDecodeError as error:
        return _not_json(f"not UTF-8: {error.reason} at byte {error.start}", body)
    except msgspec.ValidationError as error:
        return _not_json(f"not a JSON object that can be read: {error}", body)
    except (msgspec.DecodeError, RecursionError) as error:
        return _not_json(str(error), body)
    return _PARSERS.get(fields.type if isinstance(fields.type, str) else "", _unknown)(fields, body)


def _fields(body: bytes) -> _Fields:
    """Return a message's fields. Raises `msgspec.DecodeError`."""
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not _SURROGATE.search(body):
            raise
        return _fields_with_surrogates(body)


def _fields_with_surrogates(body: bytes) -> _Fields:
    """Read what msgspec refuses, though it is JSON (RFC 8259, 8.2): one half of a surrogate pair."""
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    if not isinstance(found, dict):
        raise msgspec.ValidationError(f"expected `object`, got {_kind(found)}")
    return _Fields(**{name: found[name] for name in _Fields.__struct_fields__ if name in found})


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _not_json(reason: str, body: bytes) -> Invalid:
    return Invalid(loglines.MESSAGE_INVALID_JSON(reason, readable(body)), rejected=reason)


def _unknown(fields: _Fields, body: bytes) -> Parsed:
    found = "missing" if fields.type is None else fields.type
    reason = f"type {found!r} is none that the manager knows"
    return Invalid(loglines.UNKNOWN_TYPE(found, readable(body)), rejected=reason)


# --- tasks -----------------------------------------------------------------------------------


def _task(fields: _Fields, body: bytes) -> Parsed:
    try:
        return TaskMessage(
            guid=_name(fields.guid, "guid"),
            task_type=_name(fields.task_type, "task_type"),
            priority=_priority(fields.priority),
            resources=_resources(fields.resources),
            suite=None if fields.suite_guid is None else _name(fields.suite_guid, "suite_guid"),
            time_limit=_time_limit(fields.time_limit),
        )
    except _Bad as bad:
        return Invalid(loglines.TASK_REJECTED(str(bad), readable(body)), rejected=str(bad))


def _name(value: object, field: str) -> str:
    if value is None:
        raise _Bad(f"{field} is missing")
    if not isinstance(value, str):
        raise _Bad(f"{field} is {_kind(value)}, expected a string")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise _Bad(f"{field} has one half of a surrogate pair in it") from error
    if not 1 <= size <= LONGEST_NAME:
        raise _Bad(f"{field} has {size} bytes, expected 1 to {LONGEST_NAME}")
    if "\0" in value:
        raise _Bad(f"{field} has a NUL character in it")
    return value


def _priority(value: object) -> float:
    """Return a priority. Queuebert sends it as a string."""
    if value is None:
        return DEFAULT_PRIORITY
    return _number(_from_string(value), "priority")


def _from_string(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value.strip()):
        raise _Bad("priority is a string that is no number")
    return float(value)


def _time_limit(value: object) -> float | None:
    if value is None:
        return None
    seconds = _number(value, "time_limit")
    if seconds <= 0:
        raise _Bad(f"time_limit is {seconds:g}, expected seconds greater than 0")
    return seconds


def _number(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Bad(f"{field} is {_kind(value)}, expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Bad(f"{field} is out of range")
    return number


def _resources(value: object) -> tuple[str, ...]:
    """Return the names in a list, or in one string with ``|`` between them, sorted, each once."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [name for name in value.split("|") if name]
    if not isinstance(value, list):
        raise _Bad(f"resources is {_kind(value)}, expected a list of names")
    return tuple(sorted({_name(name, "a name in resources") for name in value}))


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "an object")


# --- workers ---------------------------------------------------------------------------------


def _worker(fields: _Fields, body: bytes) -> Parsed:
    who = fields.name if fields.name not in (None, "") else fields.exchange_name
    if fields.name in (None, ""):
        return Invalid(loglines.MISSING_NAME("" if who is None else who))
    if fields.exchange_name in (None, ""):
        return Invalid(loglines.MISSING_EXCHANGE_NAME(who))
    if fields.status in (None, ""):
        return Invalid(loglines.MISSING_STATUS(who))
    try:
        return WorkerMessage(
            name=_name(fields.name, "name"),
            exchange_name=_name(fields.exchange_name, "exchange_name"),
            status=_name(fields.status, "status"),
            worker_type=None if fields.worker_type is None else _name(fields.worker_type, "worker_type"),
            task=None if fields.task in (None, "") else _name(fields.task, "task"),
        )
    except _Bad as bad:
        return Invalid(loglines.INVALID_FIELD(who, str(bad)))


def guid_of(body: bytes) -> str | None:
    """Return the guid that a task's message names, or None where it is no such message."""
    task = parse(body, len(body))
    return task.guid if isinstance(task, TaskMessage) else None


# --- control messages ------------------------------------------------------------------------


def _set_state(fields: _Fields, body: bytes) -> Parsed:
    if fields.data in (None, ""):
        return Invalid(loglines.NO_DATA(readable(body)))
    if not isinstance(fields.data, str) or fields.data not in set(ManagerState):
        return Invalid(loglines.INVALID_STATE(fields.data, readable(body)))
    return SetState(ManagerState(fields.data))


def _dispatch_tasks(fields: _Fields, body: bytes) -> Parsed:
    return DispatchTasks(fields.probe if isinstance(fields.probe, str) else None)


def _suite(fields: _Fields, body: bytes) -> Parsed:
    if fields.data in (None, ""):
        return Invalid(loglines.NO_DATA(readable(body)))
    try:
        return SuiteCommand(fields.type, _name(fields.data, "data"))
    except _Bad as bad:
        return Invalid(loglines.INVALID_DATA(str(bad), readable(body)))


def _question(fields: _Fields, body: bytes) -> Parsed:
    if fields.data in (None, "") and QUESTIONS[fields.type] in OF_A_TASK:
        return Invalid(loglines.NO_DATA(readable(body)))
    try:
        return read_question(fields.type, fields.data)
    except ValueError as error:
        return Invalid(loglines.INVALID_DATA(str(error), readable(body)))


_PARSERS = {
    "task": _task,
    "worker_status": _worker,
    "set_state": _set_state,
    "get_workers": lambda fields, body: GetWorkers(),
    "dispatch_tasks": _dispatch_tasks,
    "pause_suite": _suite,
    "ready_suite": _suite,
    "stop_suite": _suite,
    **dict.fromkeys(QUESTIONS, _question),
}
