"""What workers say of their tasks: kept, told, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from tefmanager.core.model import effects
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.limits import Limits
from tefmanager.protocol.verdicts import Result, Verdict
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, finish

FAILED = Verdict(Result.FAILED, "3 of 40", '{"failed": 3}')
RETRY = Verdict(Result.ERROR, "no disk", None, retry=True)


def kept(grid: Grid, guid: str = "A") -> tuple[Any, ...]:
    """Return what history has of a task's result."""
    assert grid.leadership is not None
    [row] = finish(grid.leadership.history([guid]))
    return row.result, row.message


def attempts(grid: Grid, task_id: int = 1) -> list[tuple[Any, ...]]:
    """Return the ends of a task's attempts, and what is kept of their results."""
    assert grid.leadership is not None
    rows = finish(grid.leadership.attempts(task_id))
    return [(row.worker, row.end, row.result, row.message, row.details) for row in rows]


def working(guid: str = "A", limits: Limits | None = None) -> Grid:
    """Return a grid in which worker w works on a task."""
    grid = Grid(limits or Limits()).on(FakeDatabase()).say("w", "idle")
    return grid.submit(guid, suite="s").say("w", "working", guid)


@pytest.mark.parametrize("end", ["task_complete", "ready"])
def test_a_result_is_kept_and_told(end: str) -> None:
    """With the attempt whole, with the task its result and message; the log has the result and the time."""
    grid = working().wait(7.5).say("w", end, "A", verdict=FAILED)
    assert kept(grid) == ("failed", "3 of 40")
    assert attempts(grid) == [("w", AttemptEnd.COMPLETED, "failed", "3 of 40", '{"failed": 3}')]
    assert grid.logged("TASK_COMPLETED") == ["TASK_COMPLETED|t|A|w|1|failed|7.5"]


def test_a_worker_that_says_nothing() -> None:
    """Its result is unknown, as with all workers there were."""
    grid = working().say("w", "task_complete")
    assert kept(grid) == ("unknown", None)
    assert grid.logged("TASK_COMPLETED") == ["TASK_COMPLETED|t|A|w|1|unknown|0.0"]


def test_a_task_that_was_too_quick_to_be_seen_working() -> None:
    """The time counts from its dispatch."""
    grid = Grid().on(FakeDatabase()).say("w", "idle").submit("A").wait(2)
    grid.say("w", "task_complete", "A", verdict=FAILED)
    assert kept(grid) == ("failed", "3 of 40")
    assert grid.logged("TASK_COMPLETED") == ["TASK_COMPLETED|t|A|w|1|failed|2.0"]


def test_a_late_result_counts() -> None:
    """The first completion wins, also of an attempt that is over: its row gets what its worker said."""
    grid = working().say("v", "idle").wait(601).say("v", "working", "A")
    grid.say("w", "task_complete", "A", verdict=FAILED)
    assert kept(grid) == ("failed", "3 of 40")
    assert attempts(grid) == [
        ("w", AttemptEnd.MISSING, "failed", "3 of 40", '{"failed": 3}'),
        ("v", AttemptEnd.SUPERSEDED, None, None, None),
    ]
    assert grid.say("v", "task_complete", "A", verdict=Verdict(Result.PASSED)).logged("TASK_COMPLETED") == [
        "TASK_COMPLETED|t|A|w|1|failed|601.0"
    ]
    assert kept(grid) == ("failed", "3 of 40")


def test_the_result_of_an_attempt_that_nobody_knows() -> None:
    """A worker that the manager had lost brings its result home."""
    grid = working().wait(91).say("v", "idle", worker_type="other")
    grid.say("v", "task_complete", "A", verdict=FAILED, worker_type="other")
    assert grid.logged("TASK_COMPLETED") == ["TASK_COMPLETED|t|A|v|0|failed|0.0"]
    assert kept(grid) == ("failed", "3 of 40")


def test_a_result_that_is_told_again() -> None:
    """Where only what follows tells whether it is true, the result waits for that as well."""
    grid = working().say("w", "task_complete", verdict=FAILED, redelivered=True)
    assert grid.logged("TASK_COMPLETED") == []
    grid.say("w", "idle")
    assert kept(grid) == ("failed", "3 of 40")


def test_a_result_in_doubt_outlasts_a_restart() -> None:
    """So does the wish to be tried elsewhere: it never completes a task."""
    grid = working().say("w", "task_complete", verdict=FAILED, redelivered=True).restart().say("w", "idle")
    assert kept(grid) == ("failed", "3 of 40")
    assert attempts(grid) == [("w", AttemptEnd.COMPLETED, "failed", "3 of 40", '{"failed": 3}')]
    grid = working().say("w", "task_complete", verdict=RETRY, redelivered=True).restart().say("w", "idle")
    assert attempts(grid) == [("w", AttemptEnd.ENVIRONMENT, "error", "no disk", None)]
    assert grid.logged("TASK_COMPLETED") == []


def test_a_result_told_again_that_was_of_the_task_before() -> None:
    """Its worker goes on: nothing of it sticks to the task that it works on."""
    grid = working().say("w", "task_complete", verdict=FAILED, redelivered=True).say("w", "working")
    grid.say("w", "task_complete")
    assert kept(grid) == ("unknown", None)


def test_an_end_without_a_word() -> None:
    """What was told again of the task before is not said of this one."""
    grid = working().say("w", "task_complete", verdict=FAILED, redelivered=True).say("w", "task_complete")
    assert kept(grid) == ("unknown", None)


def test_ready_that_names_another_task() -> None:
    """It is no end of the one that its worker has."""
    grid = working().say("w", "ready", "B", verdict=FAILED)
    assert grid.logged("TASK_COMPLETED") == []
    grid.say("w", "ready", attempt=9).say("w", "ready", "A", attempt=1, verdict=FAILED)
    assert kept(grid) == ("failed", "3 of 40")


def test_an_attempt_that_is_named() -> None:
    """A worker that was sent a task twice says which of the two it means."""
    grid = Grid().on(FakeDatabase()).say("w", "idle").submit("A").wait(20).say("w", "idle").wait(11)
    assert [attempt.id for attempt in grid.core.workers.get("w").queue] == [1, 2]  # type: ignore[union-attr]
    grid.say("w", "task_complete", attempt=1, verdict=FAILED)
    assert [each[1:3] for each in attempts(grid)] == [
        (AttemptEnd.DISPATCH_TIMEOUT, "failed"),
        (AttemptEnd.SUPERSEDED, None),
    ]


def test_what_cannot_be_used_is_logged() -> None:
    """The rest of the message counts."""
    grid = working().say("w", "task_complete", "A", faults=("result is 'green', expected …",))
    assert grid.logged("RESULT_FAULTY") == ["RESULT_FAULTY|w|A|result is 'green', expected …"]
    assert kept(grid) == ("unknown", None)


# --- to be tried elsewhere ---


def test_surroundings_to_blame() -> None:
    """The attempt counts and is kept with its reason; the task waits for another worker, though busy."""
    grid = Grid().on(FakeDatabase()).say("v", "idle").submit("B").say("v", "working", "B")
    grid.say("w", "idle").submit("A").say("w", "working", "A")
    grid.say("w", "task_complete", "A", verdict=RETRY).say("w", "idle").wait(30)
    assert attempts(grid, 2) == [("w", AttemptEnd.ENVIRONMENT, "error", "no disk", None)]
    assert grid.logged("TASK_RELEASED") == ["TASK_RELEASED|t|A|w|2|environment"]
    assert grid.waiting() == ["A"]
    grid.say("v", "task_complete", "B").say("v", "idle")
    assert grid.logged("DISPATCH|")[-1] == "DISPATCH|t|A|v"


def test_the_only_worker_is_tried_again() -> None:
    """Where there is no other, the task goes to the same one, until its attempts are used up."""
    grid = working(limits=Limits(max_attempts=3))
    for _ in range(3):
        grid.say("w", "working", "A").say("w", "task_complete", "A", verdict=RETRY).say("w", "idle")
    assert len(grid.logged("DISPATCH|")) == 3
    assert grid.logged("TASK_DEAD") == ["TASK_DEAD|t|A|3"]


@pytest.mark.parametrize("restarted", [False, True])
def test_others_that_go_leave_the_one_that_was_shunned(restarted: bool) -> None:
    """A task does not wait for workers that are gone, over a restart as well."""
    grid = Grid().on(FakeDatabase()).say("v", "idle").submit("B").say("v", "working", "B")
    grid.say("w", "idle").submit("A").say("w", "working", "A")
    grid.say("w", "task_complete", "A", verdict=RETRY).say("w", "idle")
    if restarted:
        grid.restart().say("w", "idle").say("v", "working", "B")
    grid.say("v", "offline").say("w", "idle").wait(11)
    assert [line for line in grid.logged("DISPATCH|") if line.endswith("|w")][-1] in (
        "DISPATCH|t|A|w",
        "DISPATCH|t|B|w",
    )
    grid.say("w", "working").say("w", "task_complete").say("w", "idle").wait(11)
    assert {"DISPATCH|t|A|w", "DISPATCH|t|B|w"} <= set(grid.logged("DISPATCH|"))


def test_one_that_let_it_stall_is_avoided_for_good() -> None:
    """That it was shunned as well does not bring it back."""
    grid = working(limits=Limits(max_attempts=0)).say("v", "idle")
    grid.say("w", "task_complete", "A", verdict=RETRY).say("w", "idle").say("v", "offline").wait(11)
    grid.say("w", "working", "A").wait(601).say("w", "idle").say("w", "idle").wait(700)
    assert grid.waiting() == ["A"]


def test_an_attempt_that_is_over_asks_for_no_other() -> None:
    """A late wish changes nothing: somebody else has the task by now."""
    grid = working().say("v", "idle").wait(601).say("v", "working", "A")
    grid.say("w", "task_complete", "A", verdict=RETRY)
    assert grid.logged("COMPLETION_IGNORED") == [
        "COMPLETION_IGNORED|w|A|the attempt is over already, and asks for another"
    ]
    assert grid.say("v", "task_complete", "A").logged("TASK_COMPLETED") == [
        "TASK_COMPLETED|t|A|v|2|unknown|0.0"
    ]


def test_surroundings_to_blame_before_the_broker_confirms() -> None:
    """The worker evidently had the task: the attempt counts."""
    grid = Grid(confirm=False).on(FakeDatabase()).say("w", "idle").submit("A")
    grid.say("w", "task_complete", "A", verdict=RETRY)
    assert grid.core.backlog.by_guid["A"].attempts == 1


def again_at_the_only_worker() -> Grid:
    """Return a grid in which the only worker has a task again whose surroundings it blamed."""
    grid = Grid().on(FakeDatabase()).say("w", "idle").submit("A")
    grid.say("w", "working", "A").say("w", "task_complete", "A", attempt=1, verdict=RETRY).say("w", "idle")
    assert grid.core.backlog.by_guid["A"].attempt is not None
    return grid


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("attempt", [None, 1])
def test_surroundings_to_blame_told_again(begun: bool, attempt: int | None) -> None:
    """The task has come back to its worker by then: the attempt before is meant, not this one."""
    grid = again_at_the_only_worker()
    if begun:
        grid.say("w", "working", "A")
    grid.say("w", "task_complete", "A", attempt=attempt, verdict=RETRY, redelivered=True).say(
        "w", "working"
    )
    assert len(attempts(grid)) == 1
    grid.say("w", "task_complete", "A", verdict=FAILED)
    assert kept(grid) == ("failed", "3 of 40")


@pytest.mark.parametrize("end", ["task_complete", "ready"])
def test_surroundings_to_blame_told_again_of_the_same_attempt(end: str) -> None:
    """Its number leaves no doubt."""
    grid = again_at_the_only_worker().say("w", "working", "A")
    grid.say("w", end, "A", attempt=2, verdict=RETRY, redelivered=True)
    assert [row[1] for row in attempts(grid)] == [AttemptEnd.ENVIRONMENT] * 2


def test_a_regained_task_has_a_new_number() -> None:
    """Its worker knows the old one alone, and says *ready* at its end."""
    grid = working().wait(601).say("w", "working", "A", attempt=1)
    assert grid.logged("TASK_REGAINED") == ["TASK_REGAINED|t|A|w|2"]
    grid.say("w", "ready", "A", attempt=1, verdict=FAILED)
    assert kept(grid) == ("failed", "3 of 40")


# --- progress, and limits of their own ---


def test_progress_is_remembered_until_the_attempt_ends() -> None:
    """The last that was said stands."""
    grid = working().say("w", "working", "A", progress="1 of 3").say("w", "working", "A")
    task = grid.core.backlog.by_guid["A"]
    assert task.attempt is not None
    assert task.attempt.said.progress == "1 of 3"
    grid.say("w", "working", "A", progress="2 of 3")
    assert task.attempt.said.progress == "2 of 3"


def test_a_worker_that_keeps_limits_itself() -> None:
    """It has ten seconds more to end its task, and to say so."""
    grid = working(limits=Limits(time_limit=60.0, missing_interval=900.0)).say(
        "w", "working", "A", limits=True
    )
    assert grid.wait(69).logged("WORKER_STALLED") == []
    assert grid.wait(2).logged("WORKER_STALLED") == ["WORKER_STALLED|w|t|A"]


def test_the_worker_is_told_its_limit() -> None:
    """With each dispatch: the task's own, or the one for all."""
    grid = Grid(Limits(time_limit=60.0)).say("w", "idle").submit("A").say("w", "task_complete", "A")
    grid.say("w", "idle").submit("B", time_limit=5.5)
    sent = [effect for effect in grid.effects if isinstance(effect, effects.Publish)]
    assert [(each.attempt, each.time_limit) for each in sent] == [(1, 60.0), (2, 5.5)]


def test_limits_of_their_own_over_a_restart() -> None:
    """A new leadership does not know yet who keeps limits itself; whoever does not has no more time."""
    grid = working(limits=Limits(time_limit=6.0)).say("w", "working", "A", limits=True).restart()
    assert grid.wait(15).logged("WORKER_STALLED") == []
    assert grid.wait(2).logged("WORKER_STALLED") == ["WORKER_STALLED|w|t|A"]
    grid = working(limits=Limits(time_limit=6.0)).restart().wait(3).say("w", "working", "A")
    assert grid.wait(4).logged("WORKER_STALLED") == ["WORKER_STALLED|w|t|A"]


def test_a_crossing_heartbeat_does_not_regain_what_a_worker_did_not_want() -> None:
    """It was on its way when the worker asked for another one."""
    grid = Grid().on(FakeDatabase()).say("v", "idle").submit("B").say("v", "working", "B")
    grid.say("w", "idle").submit("A").say("w", "working", "A")
    grid.say("w", "task_complete", "A", verdict=RETRY).say("w", "working", "A")
    assert grid.logged("TASK_REGAINED") == []
    assert grid.waiting() == ["A"]


def test_a_regained_task_is_known_by_its_old_number() -> None:
    """Its worker knows no other: the first word of its end ends it, with its result."""
    grid = working().wait(91).say("w", "working", attempt=1)
    assert grid.logged("TASK_REGAINED") == ["TASK_REGAINED|t|A|w|2"]
    grid.say("w", "ready", attempt=1, verdict=FAILED)
    assert grid.logged("TASK_COMPLETED") == ["TASK_COMPLETED|t|A|w|2|failed|0.0"]
    assert kept(grid) == ("failed", "3 of 40")
