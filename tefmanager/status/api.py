"""Answers requests under ``/api/``, from one table of all questions and actions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct
from twisted.internet.defer import Deferred

from tefmanager import inquiry
from tefmanager.core.model import events
from tefmanager.core.model.values import WorkerStatus
from tefmanager.inquiry.inquirer import TooManyQuestions
from tefmanager.inquiry.questions import read_question
from tefmanager.protocol.messages import ManagerState, SetState, SuiteCommand
from tefmanager.status.view import Events, Health, Rates, Readiness, View

MOST = 1000
"""The most items in one answer."""

LONGEST_BODY = 4096
"""The most bytes of a request's body."""

LONGEST_NAME = 255
"""The most bytes of a name, as in messages."""

_DIGITS = re.compile("[0-9]{1,9}")

TASK_STATES = ("waiting", "reserving", "dispatched", "working", "dead_lettering")
SUITE_ACTIONS = {"pause": "pause_suite", "ready": "ready_suite", "stop": "stop_suite"}


class Refused(Exception):
    """A request is answered with an error.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Error(Struct, frozen=True):
    """Why a request failed."""

    error: str


class Accepted(Struct, frozen=True):
    """The next turn will carry out the action."""

    accepted: bool = True


class StateBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The new state of the manager."""

    state: ManagerState


class SuiteBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The suite to act on."""

    suite: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]


class GuidBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The task to act on."""

    guid: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]


B = TypeVar("B", bound=Struct)

Query = Mapping[str, str]
Names = Mapping[str, str]


@dataclass(frozen=True)
class Parameter:
    """A query parameter.

    Attributes:
        text: what it does, for people.
        choices: its possible values; empty means any text.
        number: it is an integer from 1 to `MOST`.
    """

    text: str
    choices: tuple[str, ...] = ()
    number: bool = False


@dataclass(frozen=True)
class Route:
    """A question or an action.

    Attributes:
        method: ``GET`` or ``POST``.
        path: below ``/api/``; ``{name}`` stands for one segment.
        text: what it does, for people.
        answer: makes the answer from the view, the query, the names in the path and the body, now or later.
        result: type of the answer.
        query: its parameters.
        body: type of the body, or None if it has none.
        choices: the possible values of a name in the path, if restricted.
    """

    method: str
    path: str
    text: str
    answer: Callable[[View, Query, Names, bytes], Struct | Deferred[Struct]]
    result: type[Struct]
    query: Mapping[str, Parameter] = field(default_factory=dict)
    body: type[Struct] | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def match(self, segments: list[str]) -> Names | None:
        """Return the values of the names in the path, or None if the path does not match."""
        parts = self.path.split("/")
        if len(parts) != len(segments):
            return None
        pairs = list(zip(parts, segments, strict=True))
        if any(part != segment for part, segment in pairs if not part.startswith("{")):
            return None
        names = {part.strip("{}"): segment for part, segment in pairs if part.startswith("{")}
        fits = all(names[name] in choices for name, choices in self.choices.items())
        return names if fits else None


def decoded_path(segments: list[bytes]) -> list[str]:
    """Return the segments of a path as text. Raises `Refused`."""
    try:
        return [segment.decode() for segment in segments]
    except UnicodeDecodeError:
        raise Refused(400, "the path is not UTF-8") from None


def checked_query(given: Mapping[str, list[str]], known: Mapping[str, Parameter]) -> Query:
    """Return the query's parameters, each once. Raises `Refused`."""
    found: dict[str, str] = {}
    for name, texts in given.items():
        if name not in known:
            raise Refused(400, f"this path has no parameter {name!r}")
        if len(texts) != 1:
            raise Refused(400, f"{name} is given more than once")
        found[name] = _checked(name, texts[0], known[name])
    return found


def _checked(name: str, text: str, parameter: Parameter) -> str:
    if parameter.choices and text not in parameter.choices:
        raise Refused(400, f"{name} is one of {', '.join(parameter.choices)}")
    if parameter.number and not (_DIGITS.fullmatch(text) and 0 < int(text) <= MOST):
        raise Refused(400, f"{name} is a whole number from 1 to {MOST}")
    if not parameter.number and not 0 < len(text.encode()) <= LONGEST_NAME:
        raise Refused(400, f"{name} has 1 to {LONGEST_NAME} bytes")
    return text


def _limit(query: Query) -> int:
    return int(query.get("limit", 100))


def _workers(view: View, query: Query, names: Names, body: bytes) -> inquiry.Workers:
    kind, status = query.get("type"), query.get("status")
    return inquiry.workers(view.core, view.now, worker_type=kind, status=status, at_most=_limit(query))


def _tasks(view: View, query: Query, names: Names, body: bytes) -> inquiry.Tasks:
    wanted = inquiry.TaskFilter(query.get("type"), query.get("suite"), query.get("state"))
    return inquiry.find_tasks(view.core, wanted, _limit(query))


async def _told(view: View, type: str, data: object) -> object:
    """Ask a question of a control message. Raises `Refused`."""
    try:
        return await view.ask(read_question(type, data))
    except ValueError as error:
        raise Refused(400, str(error)) from None
    except TooManyQuestions as error:
        raise Refused(503, str(error)) from None


def _of_a_task(type: str) -> Callable[[View, Query, Names, bytes], Deferred[Struct]]:
    """Return a function that answers a question about one task, finished or not."""

    async def find(view: View, guid: str) -> Struct:
        found = await _told(view, type, guid)
        if not isinstance(found, Struct):
            raise Refused(404, "there is no task with this guid, not even in history")
        return found

    return lambda view, query, names, body: Deferred.fromCoroutine(find(view, names["guid"]))


def _dead(view: View, query: Query, names: Names, body: bytes) -> Deferred[Struct]:
    async def find() -> Struct:
        found = await _told(view, "get_dead", {"limit": _limit(query)})
        assert isinstance(found, Struct)
        return found

    return Deferred.fromCoroutine(find())


def _act_on_dead(view: View, query: Query, names: Names, body: bytes) -> Deferred[Struct]:
    act = {"retry": _retry, "drop": _drop}[names["action"]]
    guid = names["guid"] if "guid" in names else _read_body(body, GuidBody).guid
    return Deferred.fromCoroutine(act(view, guid))


async def _retry(view: View, guid: str) -> Struct:
    """Submit a dead task again; it waits when this returns."""
    found = await _told(view, "retry_dead", {"guids": [guid]})
    if not (isinstance(found, inquiry.Retried) and guid in found.retried):
        raise Refused(404, "there is no such dead task")
    return Accepted()


async def _drop(view: View, guid: str) -> Struct:
    """Stop listing a dead task; its copy is removed from the dead queue soon."""
    if not await _told(view, "settle_dead", {"guids": [guid]}):
        raise Refused(404, "there is no such dead task")
    return Accepted()


def _set_state(view: View, query: Query, names: Names, body: bytes) -> Accepted:
    view.command(events.Commanded(SetState(_read_body(body, StateBody).state)))
    return Accepted()


def _read_body(body: bytes, wanted: type[B]) -> B:
    """Return a body's content. Raises `Refused`."""
    try:
        return msgspec.json.decode(body, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is invalid: {error}") from None


def _suite(view: View, query: Query, names: Names, body: bytes) -> Accepted:
    suite = names["suite"] if "suite" in names else _read_body(body, SuiteBody).suite
    if not 0 < len(suite.encode()) <= LONGEST_NAME or "\0" in suite:
        raise Refused(400, f"a suite has 1 to {LONGEST_NAME} bytes without NUL")
    view.command(events.Commanded(SuiteCommand(SUITE_ACTIONS[names["action"]], suite)))
    return Accepted()


_LIMIT = Parameter(f"maximum number of entries, 1 to {MOST}; default: 100", number=True)
_TYPE = Parameter("only entries of this type")

ROUTES = (
    Route("GET", "health", "Whether the manager makes progress", lambda view, *_: view.health(), Health),
    Route(
        "GET",
        "ready",
        "Active or standby, and missing services",
        lambda view, *_: view.readiness(),
        Readiness,
    ),
    Route(
        "GET", "status", "The manager's state and numbers", lambda view, *_: view.status(), inquiry.Status
    ),
    Route(
        "GET",
        "workers",
        "Workers, with their tasks",
        _workers,
        inquiry.Workers,
        {
            "type": _TYPE,
            "status": Parameter("only workers in this status", tuple(WorkerStatus)),
            "limit": _LIMIT,
        },
    ),
    Route(
        "GET",
        "tasks",
        "Tasks that are not finished",
        _tasks,
        inquiry.Tasks,
        {
            "type": _TYPE,
            "suite": Parameter("only tasks of this suite"),
            "state": Parameter("only tasks in this state", TASK_STATES),
            "limit": _LIMIT,
        },
    ),
    Route(
        "GET",
        "tasks/{guid}",
        "A task, with its last 1,000 attempts",
        _of_a_task("get_task"),
        inquiry.TaskDetail,
    ),
    Route(
        "GET",
        "tasks/{guid}/explanation",
        "Why a task is not running",
        _of_a_task("explain_task"),
        inquiry.Explanation,
    ),
    Route(
        "GET",
        "dead",
        "Dead tasks: tasks without attempts left",
        _dead,
        inquiry.DeadTasks,
        {"limit": _LIMIT},
    ),
    Route(
        "GET",
        "suites",
        "Suites with unfinished tasks, and paused suites",
        lambda view, query, *_: inquiry.suites(view.core, _limit(query)),
        inquiry.Suites,
        {"limit": _LIMIT},
    ),
    Route(
        "GET",
        "resources",
        "Resources: how many are held, by whom, and who waits",
        lambda view, *_: view.resources(),
        inquiry.Resources,
    ),
    Route("GET", "events", "The last events of the log", lambda view, *_: view.events(), Events),
    Route("GET", "rates", "Rates of the last hour", lambda view, *_: view.rates(), Rates),
    Route("POST", "state", "Set the manager's state", _set_state, Accepted, body=StateBody),
    Route(
        "POST",
        "suites/{suite}/{action}",
        "Pause or resume a suite, or remove its waiting tasks",
        _suite,
        Accepted,
        choices={"action": tuple(SUITE_ACTIONS)},
    ),
    Route(
        "POST",
        "suites/{action}",
        "The same, for suites whose name can't be part of a path, such as `..`",
        _suite,
        Accepted,
        body=SuiteBody,
        choices={"action": tuple(SUITE_ACTIONS)},
    ),
    Route(
        "POST",
        "dead/{guid}/{action}",
        "Submit a dead task again, or drop it",
        _act_on_dead,
        Accepted,
        choices={"action": ("retry", "drop")},
    ),
    Route(
        "POST",
        "dead/{action}",
        "The same, for tasks whose guid can't be part of a path, such as `..`",
        _act_on_dead,
        Accepted,
        body=GuidBody,
        choices={"action": ("retry", "drop")},
    ),
)
"""Everything under ``/api/``, except its description and the stream."""
