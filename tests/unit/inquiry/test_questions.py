"""Control messages that ask something, and how they are answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from tefmanager import inquiry
from tefmanager.core.model.dead_copies import Stored
from tefmanager.core.model.events import TaskSubmitted
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.core.model.values import WorkerStatus
from tefmanager.engine.deadcopies import DeadCopies
from tefmanager.inquiry.inquirer import AT_ONCE, MOST_ASKED, Inquirer, TooManyQuestions
from tefmanager.inquiry.questions import (
    PARSERS,
    DropDeadMessages,
    ExplainTask,
    GetDead,
    GetDeadMessages,
    GetDeadTask,
    GetHistory,
    GetResources,
    GetStatus,
    GetSuites,
    GetTask,
    GetTasks,
    GetWorkerDetails,
    Question,
    RetryDead,
    SettleDead,
)
from tefmanager.protocol.messages import Invalid, parse
from tefmanager.protocol.verdicts import Result
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, finish, submitted
from tests.unit.support.outages import Told


def read(type: str, **fields: object) -> object:
    """Parse a control message."""
    return parse(json.dumps({"type": type, **fields}).encode(), 1_000_000, others=PARSERS)


@pytest.mark.parametrize(
    ("message", "question"),
    [
        (read("get_status"), GetStatus()),
        (read("get_status", data=None), GetStatus()),
        (read("get_worker_details"), GetWorkerDetails()),
        (
            read("get_worker_details", data={"worker_type": "t", "status": "idle", "limit": 5}),
            GetWorkerDetails("t", WorkerStatus.IDLE, 5),
        ),
        (read("get_tasks", data={"suite_guid": "s", "state": "waiting"}), GetTasks(None, "s", "waiting")),
        (read("get_tasks", data={"guids": ["A", "B"]}), GetTasks(guids=("A", "B"))),
        (read("get_task", data="A"), GetTask("A")),
        (read("explain_task", data="A"), ExplainTask("A")),
        (read("get_suites"), GetSuites()),
        (read("get_resources", data={"limit": 3}), GetResources(3)),
        (read("get_dead"), GetDead()),
        (read("get_history"), GetHistory()),
        (
            read("get_history", data={"guid": 7, "since": 1.5, "result": "failed", "after": "2.500000:3"}),
            GetHistory(guid="7", since=1.5, result=Result.FAILED, after="2.500000:3"),
        ),
        (read("settle_dead", data={"guids": ["A"]}), SettleDead(("A",))),
        (read("retry_dead", data={"guids": ["A", 5]}), RetryDead(("A", "5"))),
        (read("get_dead_task", data=5), GetDeadTask("5")),
        (read("get_dead_messages"), GetDeadMessages()),
        (read("drop_dead_messages", data={"every": True}), DropDeadMessages(every=True)),
    ],
)
def test_questions_that_are_understood(message: object, question: Question) -> None:
    """Data may be left out where there is nothing to choose."""
    assert message == question


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (read("get_task", data=7.5), "Expected `str`, got `float` - at `data`"),
        (read("get_task", data="a\0b"), "a string in data has a NUL character"),
        (read("explain_task", data="\ud800"), "one half of a surrogate pair"),
        (read("get_tasks", data={"guids": ["a", "\0"]}), "a string in data has a NUL character"),
        (read("get_tasks", data=[]), "Expected `object`, got `array`"),
        (read("get_tasks", data={"suit": "s"}), "Object contains unknown field `suit`"),
        (read("get_tasks", data={"limit": 0}), "Expected `int` >= 1 - at `data.limit`"),
        (read("get_tasks", data={"limit": 1001}), "Expected `int` <= 1000 - at `data.limit`"),
        (read("get_history", data={"outcome": "lost"}), "Invalid enum value 'lost' - at `data.outcome`"),
        (read("get_history", data={"since": -1}), "Expected `float` >= 0"),
        (read("get_history", data={"until": 1e300}), "Expected `float` <= 253402300799"),
        (read("get_history", data={"after": "1:2:3"}), "matching regex"),
        (read("get_history", data={"after": f"1:{10**18}"}), "matching regex"),
        (read("settle_dead"), "Object missing required field `guids`"),
        (read("get_worker_details", data={"status": "dancing"}), "Invalid enum value 'dancing'"),
    ],
)
def test_questions_that_are_not(message: object, reason: str) -> None:
    """What is wrong is said, and the message is no case for the queue of the rejected."""
    assert isinstance(message, Invalid)
    assert message.line.text.startswith("INVALID_JSON|INVALID_DATA|")
    assert reason in str(message.line.values[0])
    assert message.rejected is None


def test_a_guid_is_missing() -> None:
    """The log line is that of other control messages without data."""
    for message in (read("get_task"), read("explain_task", data="")):
        assert isinstance(message, Invalid)
        assert message.line.text.startswith("INVALID_JSON|NO_DATA|")


def grid_on_rows(tasks: int = 50_000) -> tuple[Grid, Inquirer]:
    """Return a grid with a database, and who answers for it."""
    grid = Grid(Limits(memory=Memory(tasks=tasks, first=1, most=2))).on(FakeDatabase())
    assert grid.leadership is not None
    return grid, inquirer_of(grid)


class DeadQueue:
    """Counts how often it is to be looked at."""

    looks = 0

    def look(self) -> None:
        """Count it."""
        self.looks += 1


def inquirer_of(grid: Grid) -> Inquirer:
    """Return who answers for a grid."""
    assert grid.leadership is not None

    async def resubmit(tasks: Sequence[TaskSubmitted]) -> None:
        grid.turn(*tasks)

    return Inquirer(grid.core, grid.leadership, Told().outages, resubmit, cast(DeadCopies, DeadQueue()))


def answer(grid: Grid, inquirer: Inquirer, question: Question) -> Any:
    """Ask, and answer as the end of a turn does."""
    found: list[object] = []
    inquirer.ask(question).addBoth(found.append)
    finish(inquirer.answer_some(grid.now))
    [value] = found
    return value


def test_each_question_has_its_answer() -> None:
    """The kinds of answers are those of `tefmanager.inquiry`."""
    grid, inquirer = grid_on_rows()
    kinds: list[tuple[Question, type]] = [
        (GetStatus(), inquiry.Status),
        (GetWorkerDetails(), inquiry.Workers),
        (GetTasks(), inquiry.Tasks),
        (GetTask("A"), inquiry.TaskDetail),
        (ExplainTask("A"), inquiry.Explanation),
        (GetSuites(), inquiry.Suites),
        (GetResources(), inquiry.Resources),
        (GetDead(), inquiry.DeadTasks),
        (SettleDead(("A",)), list),
    ]
    grid.submit("A")
    assert [type(answer(grid, inquirer, question)) for question, _ in kinds] == [kind for _, kind in kinds]


def test_a_task_is_followed_into_history() -> None:
    """Its attempts are told while it waits again, and when it is done."""
    grid, inquirer = grid_on_rows()
    grid.say("w", "idle").submit("A").say("w", "working").say("w", "offline")
    told = answer(grid, inquirer, GetTask("A"))
    assert (told.task.state, [each.end for each in told.attempts]) == ("waiting", ["offline"])
    grid.say("v", "idle").say("v", "working").say("v", "task_complete")
    told = answer(grid, inquirer, GetTask("A"))
    assert (told.task.state, told.task.attempts) == ("completed", 2)
    assert [(each.worker, each.end) for each in told.attempts] == [("w", "offline"), ("v", "completed")]
    assert "completed after 2 attempts" in answer(grid, inquirer, ExplainTask("A")).text


def test_pages_of_history() -> None:
    """They are read beside the turns, newest first, each with its attempt; ``next`` leads to the rest."""
    grid, inquirer = grid_on_rows()
    grid.say("w", "idle")
    for guid in ("A", "B", "C"):
        grid.submit(guid, suite="s").wait(1.0).say("w", "working").wait(2.0)
        grid.say("w", "task_complete").say("w", "idle")
    assert not inquirer
    first: Any = finish(inquirer.tell(GetHistory(limit=2)))
    assert [(each.guid, each.state, each.worker) for each in first.items] == [
        ("C", "completed", "w"),
        ("B", "completed", "w"),
    ]
    assert [each.finished - each.started for each in first.items] == [2.0, 2.0]
    assert (first.total, first.next is None) == (None, False)
    second: Any = finish(inquirer.tell(GetHistory(limit=2, after=first.next)))
    assert ([each.guid for each in second.items], second.total, second.next) == (["A"], None, None)
    whole: Any = finish(inquirer.tell(GetHistory(suite_guid="s", guid="C")))
    assert ([each.guid for each in whole.items], whole.total, whole.next) == (["C"], 1, None)


def test_history_can_not_be_read() -> None:
    """The answer says why."""
    database = FakeDatabase()
    inquirer = inquirer_of(Grid().on(database))
    database.go_away("no such host")
    told = finish(inquirer.tell(GetHistory()))
    assert told == "QUESTION_FAILED|get_history: CantRead: the database can't be read: no such host"


def test_dead_tasks_that_are_sent_again() -> None:
    """They wait again as they came, once; what came beside the message comes along again."""
    grid = Grid(Limits(max_attempts=1)).on(FakeDatabase())
    inquirer = inquirer_of(grid)
    body = b'{"type":"task","guid":"A","task_type":"t","resources":["r"]}'
    event = replace(submitted("A", resources=("r",)), body=body, properties=b"beside")
    grid.say("w", "idle").turn(event).say("w", "working").say("w", "offline").submit("B")
    shown = answer(grid, inquirer, GetDeadTask("A"))
    assert (shown.task.guid, shown.reason, shown.size) == ("A", "given back once", len(event.body))
    assert [attempt.end for attempt in shown.attempts] == ["offline"]
    assert answer(grid, inquirer, GetDeadTask("B")) is None
    assert answer(grid, inquirer, RetryDead(("A", "B", "C", "A"))) == inquiry.Retried(("A",), ())
    assert answer(grid, inquirer, RetryDead(("A",))) == inquiry.Retried((), ())
    assert grid.logged("TASK_ACCEPTED|t|A|1|") == ["TASK_ACCEPTED|t|A|1|"] * 2
    assert grid.leadership is not None
    [again] = finish(grid.leadership.tasks(["A"]))
    assert (again.attempts, again.spec.resources) == (0, ("r",))
    assert finish(grid.leadership.message(again.spec.id)) == Stored(event.body, b"beside")
    assert answer(grid, inquirer, GetDead()) == inquiry.DeadTasks(0, ())


def test_dead_tasks_until_they_are_settled() -> None:
    """They are told with how they ended; that they were settled is told once, and logged."""
    grid = Grid(Limits(max_attempts=1)).on(FakeDatabase())
    assert grid.leadership is not None
    inquirer = inquirer_of(grid)
    grid.say("w", "idle").submit("A", suite="s").say("w", "working").say("w", "offline").submit("B")
    [told] = answer(grid, inquirer, GetDead()).tasks
    assert (told.guid, told.suite, told.attempts, told.worker, told.end) == ("A", "s", 1, "w", "offline")
    assert told.died == grid.now.wall
    assert answer(grid, inquirer, SettleDead(("A", "B", "C"))) == ["A"]
    assert answer(grid, inquirer, SettleDead(("A",))) == []
    assert answer(grid, inquirer, GetDead()) == inquiry.DeadTasks(0, ())


def test_tasks_by_guid_wherever_they_are() -> None:
    """What is in memory, unread or finished is found; what nobody knows is left out."""
    grid, inquirer = grid_on_rows(tasks=4)
    grid.say("w", "idle").submit("done").say("w", "working").say("w", "task_complete")
    guids = [f"T{number}" for number in range(20)]
    for guid in guids:
        grid.submit(guid)
    assert grid.core.backlog.unread > 10
    told = answer(grid, inquirer, GetTasks(guids=("done", "unknown", *guids)))
    states = {task.guid: task.state for task in told.tasks}
    assert states == {"done": "completed", **dict.fromkeys(guids, "waiting")}
    unread = next(guid for guid in guids if guid not in grid.core.backlog.by_guid)
    assert answer(grid, inquirer, GetTask(unread)).task.state == "waiting"
    assert answer(grid, inquirer, ExplainTask(unread)).reasons[0].kind == "workers_busy"


def test_a_guid_that_nobody_knows() -> None:
    """The answer is none."""
    grid, inquirer = grid_on_rows()
    assert answer(grid, inquirer, GetTask("?")) is None
    assert answer(grid, inquirer, ExplainTask("?")) is None


def test_a_turn_answers_few() -> None:
    """Those who ask wait for each other, and dispatching for none of them."""
    grid, inquirer = grid_on_rows()
    found: list[object] = []
    for _ in range(AT_ONCE + 1):
        inquirer.ask(GetStatus()).addCallback(found.append)
    finish(inquirer.answer_some(grid.now))
    assert (len(found), bool(inquirer)) == (AT_ONCE, True)
    finish(inquirer.answer_some(grid.now))
    assert (len(found), bool(inquirer)) == (AT_ONCE + 1, False)


def test_too_many_questions() -> None:
    """Memory is bounded: who comes too late is told so."""
    _, inquirer = grid_on_rows()
    asked = [inquirer.ask(GetStatus()).addErrback(lambda failure: None) for _ in range(MOST_ASKED)]
    failed: list[Failure] = []
    inquirer.ask(GetStatus()).addErrback(failed.append)
    assert failed[0].check(TooManyQuestions)  # type: ignore[no-untyped-call]
    assert str(finish(inquirer.tell(GetStatus()))).startswith("QUESTION_FAILED|get_status: TooMany")
    inquirer.forsake()
    assert all(each.called for each in asked)


def test_nobody_waits_for_an_answer_any_more() -> None:
    """One who gave up is passed over, and one whose leadership ends is let go."""
    grid, inquirer = grid_on_rows()
    failed: list[Failure] = []
    inquirer.ask(GetStatus()).addErrback(failed.append).cancel()
    assert isinstance(answer(grid, inquirer, GetStatus()), inquiry.Status)
    inquirer.ask(GetStatus()).addErrback(failed.append)
    inquirer.forsake()
    assert [failure.check(CancelledError) for failure in failed] == [CancelledError] * 2  # type: ignore[no-untyped-call]


def test_whole_numbers_are_guids() -> None:
    """Wherever a guid or a suite is meant."""
    assert read("get_task", data=7) == read("get_task", data="7")
    assert read("get_tasks", data={"suite_guid": 7}) == read("get_tasks", data={"suite_guid": "7"})
    assert read("get_tasks", data={"guids": [7, "a"]}) == read("get_tasks", data={"guids": ["7", "a"]})
