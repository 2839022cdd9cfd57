"""Control messages that ask something: the questions, and their data.

All except those in `CHANGING` change nothing. Most are answered at the end of a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
import msgspec.structs
from msgspec import Meta, Struct

from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.values import WorkerStatus
from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import cut, readable
from tefmanager.protocol.fields import LONGEST_LIST, Bad, Fields, is_missing, type_of, value_of
from tefmanager.protocol.messages import LONGEST_REASON, Invalid
from tefmanager.protocol.verdicts import Result

MOST = 1000
"""How many things one answer lists, at most."""

LAST_TIME = 253402300799
"""The last unix time that can be asked for: the end of the year 9999."""

_Limit = Annotated[int, Meta(ge=1, le=MOST)]
_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Time = Annotated[float, Meta(ge=0, le=LAST_TIME)]
_Place = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?:[0-9]{1,18}$")]
_Guids = Annotated[tuple[_Name, ...], Meta(max_length=MOST)]


class GetStatus(Struct, frozen=True, forbid_unknown_fields=True):
    """What is the manager's state?"""

    type: ClassVar[str] = "get_status"


class GetWorkerDetails(Struct, frozen=True, forbid_unknown_fields=True):
    """Which workers are there, with this type and status if given?"""

    type: ClassVar[str] = "get_worker_details"
    worker_type: _Name | None = None
    status: WorkerStatus | None = None
    limit: _Limit = MOST


class GetTasks(Struct, frozen=True, forbid_unknown_fields=True):
    """Which tasks are not finished? With ``guids``: what became of these, finished or not?"""

    type: ClassVar[str] = "get_tasks"
    task_type: _Name | None = None
    suite_guid: _Name | None = None
    state: _Name | None = None
    guids: _Guids | None = None
    limit: _Limit = 100


class GetTask(Struct, frozen=True):
    """What became of a task?"""

    type: ClassVar[str] = "get_task"
    guid: _Name


class ExplainTask(Struct, frozen=True):
    """Why is a task not running?"""

    type: ClassVar[str] = "explain_task"
    guid: _Name


class GetSuites(Struct, frozen=True, forbid_unknown_fields=True):
    """Which suites are there?"""

    type: ClassVar[str] = "get_suites"
    limit: _Limit = MOST


class GetResources(Struct, frozen=True, forbid_unknown_fields=True):
    """Which resources are there, who holds them, and who waits?"""

    type: ClassVar[str] = "get_resources"
    limit: _Limit = MOST


class GetHistory(Struct, frozen=True, forbid_unknown_fields=True):
    """Which tasks are finished? One page of them, newest first; ``after``: where the last page ended."""

    type: ClassVar[str] = "get_history"
    suite_guid: _Name | None = None
    task_type: _Name | None = None
    worker: _Name | None = None
    outcome: Outcome | None = None
    result: Result | None = None
    guid: _Name | None = None
    since: _Time | None = None
    until: _Time | None = None
    limit: _Limit = 100
    after: _Place | None = None


class GetDead(Struct, frozen=True, forbid_unknown_fields=True):
    """Which tasks are dead and not settled?"""

    type: ClassVar[str] = "get_dead"
    limit: _Limit = 100


class GetDeadTask(Struct, frozen=True):
    """What was a dead task's message, and how did its attempts end?"""

    type: ClassVar[str] = "get_dead_task"
    guid: _Name


class GetDeadMessages(Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages in the dead queue are no dead task's copy? Looks at a limited number of messages."""

    type: ClassVar[str] = "get_dead_messages"
    limit: _Limit = MOST


class DropDeadMessages(Struct, frozen=True, forbid_unknown_fields=True):
    """Remove messages from the dead queue, by the listed names or guids, or ``every`` one.

    Copies of tasks that are listed as dead stay.
    """

    type: ClassVar[str] = "drop_dead_messages"
    guids: _Guids = ()
    every: bool = False


class RetryDead(Struct, frozen=True, forbid_unknown_fields=True):
    """Submit dead tasks again, as they came: which of them wait again?"""

    type: ClassVar[str] = "retry_dead"
    guids: _Guids


class SettleDead(Struct, frozen=True, forbid_unknown_fields=True):
    """Remove dead tasks from the list: which were in it?"""

    type: ClassVar[str] = "settle_dead"
    guids: _Guids


Question: TypeAlias = (
    GetStatus
    | GetWorkerDetails
    | GetTasks
    | GetTask
    | ExplainTask
    | GetSuites
    | GetResources
    | GetHistory
    | GetDead
    | GetDeadTask
    | GetDeadMessages
    | DropDeadMessages
    | RetryDead
    | SettleDead
)

_KINDS: tuple[type[Question], ...] = (
    GetStatus,
    GetWorkerDetails,
    GetTasks,
    GetTask,
    ExplainTask,
    GetSuites,
    GetResources,
    GetHistory,
    GetDead,
    GetDeadTask,
    GetDeadMessages,
    DropDeadMessages,
    RetryDead,
    SettleDead,
)
QUESTIONS: dict[str, type[Question]] = {kind.type: kind for kind in _KINDS}
"""The questions, by the type of their message."""

CHANGING = (DropDeadMessages, RetryDead, SettleDead)
"""Those that change something, even if nobody wants an answer."""

WRITING = (RetryDead, SettleDead)
"""Those whose message is acknowledged only when the rows are written, so that they are carried out even if
the manager dies. Dropping messages is not among them: it needs a walk through the dead queue, which may
be very long."""

OF_A_TASK = (GetTask, ExplainTask, GetDeadTask)
"""Those whose data is a task's guid."""


def read_question(type: str, data: Any) -> Question:
    """Return the question in a message. Raises `ValueError`, which says what is wrong with its data.

    Questions about a task take a guid; the others take an object, which may be omitted.
    """
    kind = QUESTIONS[type]
    if kind in OF_A_TASK:
        data = {"guid": data}
    if isinstance(data, dict):
        data = {key: _as_texts(value) if key in _GUIDS else value for key, value in data.items()}
    try:
        question = msgspec.convert({} if data is None else data, kind)
    except msgspec.ValidationError as error:
        reason = str(error).replace("$.guid`", "data`").replace("$", "data")
        raise ValueError(reason) from error
    if any(not _is_storable(text) for text in _texts(question)):
        raise ValueError("a string in data has a NUL character or one half of a surrogate pair in it")
    return question


_GUIDS = ("guid", "guids", "suite_guid")


def _as_texts(value: Any) -> Any:
    """Return guids, converting whole numbers to decimal text."""
    if isinstance(value, list):
        return [_as_texts(each) for each in value]
    return str(value) if type(value) is int else value


def _texts(question: Question) -> Iterator[str]:
    for value in msgspec.structs.asdict(question).values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value


def _is_storable(text: str) -> bool:
    """Tell whether the database can store a text, and so may be asked for it."""
    return "\0" not in text and text == text.encode(errors="ignore").decode()


def _parse(fields: Fields, body: bytes) -> Question | Invalid:
    kind = type_of(fields)
    if is_missing(fields.data) and QUESTIONS[kind] in OF_A_TASK:
        return Invalid(catalogue.NO_DATA(readable(body)))
    try:
        return read_question(kind, value_of(fields.data, "data", LONGEST_LIST))
    except (Bad, ValueError) as error:
        return Invalid(catalogue.INVALID_DATA(cut(str(error), LONGEST_REASON), readable(body)))


PARSERS = dict.fromkeys(QUESTIONS, _parse)
"""For `tefmanager.protocol.messages.parse`: the parser for each type of message."""
