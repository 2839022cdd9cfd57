"""What becomes of an attempt when the broker is silent, words come late, or a worker comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tefmanager.core.model import effects, events
from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.inquiry.explain import explain
from tefmanager.protocol.messages import ManagerState
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid

PATIENT = Limits(missing_interval=1e9, time_limit=1e9)


class SlowDeadQueue(Grid):
    """The dead queue has not confirmed anything yet."""

    def _answers(self, effect: effects.Effect) -> list[events.Event]:
        return [] if isinstance(effect, effects.DeadLetter) else super()._answers(effect)


def returned(attempt: int) -> events.Event:
    """The broker has no such queue."""
    return events.DispatchFailed(attempt, "312 NO_ROUTE")


def ends(grid: Grid) -> list[AttemptEnd]:
    """Return how attempts ended."""
    return [row.end for changes in grid.changes for row in changes.attempts]


def unconfirmed(*workers: str, limits: Limits = PATIENT) -> Grid:
    """The broker confirms nothing; T is sent to the first of some workers."""
    grid = Grid(limits, confirm=False)
    for name in workers:
        grid.say(name, "idle")
    return grid.submit("T")


def beat(grid: Grid, *workers: str, seconds: float) -> Grid:
    """Let time pass with heartbeats."""
    for _ in range(int(seconds / 10)):
        grid.wait(10)
        for name in workers:
            grid.say(name, "idle")
    return grid


# --- the broker does not say what became of a dispatch ---


def test_unconfirmed_dispatch_is_not_sent_there_again() -> None:
    """However long the broker says nothing, there is one copy in that queue."""
    grid = beat(unconfirmed("a"), "a", seconds=600)
    assert grid.sent == [("a", "T")]
    assert grid.logged("DISPATCH_UNCONFIRMED|t|T|a|") and not grid.logged("DISPATCH_TIMEOUT|")
    assert grid.submit("U").sent == [("a", "T")], "what comes late would be taken for U"


@pytest.mark.parametrize("settled", [returned, events.DispatchUncertain])
def test_settled_dispatch_may_be_sent_there_again(settled: Callable[[int], events.Event]) -> None:
    """Returned, or the connection is lost: it is known that nothing more comes of it."""
    grid = beat(unconfirmed("a"), "a", seconds=60)
    grid.turn(settled(grid.published[0].attempt))
    assert beat(grid, "a", seconds=30).sent == [("a", "T"), ("a", "T")]


def test_late_confirm_counts() -> None:
    """The worker has it after all."""
    grid = beat(unconfirmed("a"), "a", seconds=60)
    grid.turn(events.DispatchConfirmed(grid.published[0].attempt))
    assert grid.logged("DISPATCH|t|T|a")
    grid.say("a", "working").say("a", "task_complete")
    assert grid.outcomes == {"T": Outcome.COMPLETED}


@pytest.mark.parametrize("settled", [None, events.DispatchUncertain])
def test_unconfirmed_dispatches_are_no_attempts(settled: Callable[[int], events.Event] | None) -> None:
    """Seven of them, and the task is alive, whether or not the connection was lost."""
    names = "abcdefg"
    grid = unconfirmed(*names)
    for number in range(1, 8):
        if settled is not None:
            grid.turn(settled(grid.published[-1].attempt))
        beat(grid, *names, seconds=40)
        assert len(grid.sent) > number or len(grid.sent) == len(names)
    assert grid.outcomes == {} and not grid.logged("TASK_DEAD")
    assert grid.core.backlog.by_guid["T"].attempts <= 1


def test_dispatches_of_past_leaderships_are_no_attempts() -> None:
    """Nobody knows whether they were ever sent: managers that die before they send kill no task."""
    grid = Grid(PATIENT, confirm=False).on(FakeDatabase()).submit("T").say("a", "idle")
    for _ in range(7):
        beat(grid.restart(), "a", seconds=40)
    assert grid.outcomes == {} and grid.waiting() + [guid for _, guid in grid.sent[-1:]]
    assert not grid.logged("TASK_DEAD")


@pytest.mark.parametrize("confirm", [True, False])
def test_a_restart_amid_a_dispatch(confirm: bool) -> None:
    """Its worker has a whole dispatch timeout from then on; nobody else gets the task."""
    grid = Grid(PATIENT, confirm=confirm).on(FakeDatabase())
    grid.say("a", "idle").say("b", "idle").submit("T").wait(25).restart().say("b", "idle").wait(25)
    assert grid.sent == [("a", "T")]
    grid.say("a", "working").say("a", "task_complete")
    assert (grid.outcomes, grid.sent) == ({"T": Outcome.COMPLETED}, [("a", "T")])
    assert [row.number for changes in grid.changes for row in changes.attempts] == [1]


def test_a_restart_before_the_dispatch_was_sent() -> None:
    """Nobody has it: after a dispatch timeout it goes to another worker, as its first attempt."""
    grid = Grid(PATIENT, confirm=False).on(FakeDatabase())
    grid.say("a", "idle").say("b", "idle").submit("T").restart()
    beat(grid, "a", "b", seconds=40)
    assert grid.sent == [("a", "T"), ("b", "T")]
    grid.say("b", "working").say("b", "task_complete")
    assert [row.number for changes in grid.changes for row in changes.attempts] == [1, 1]
    assert grid.outcomes == {"T": Outcome.COMPLETED}


def test_what_was_sent_once_is_known_in_any_memory() -> None:
    """No attempt counts, but its worker may have it: after a restart that works at it, and gets it back."""
    limits = replace(PATIENT, memory=Memory(tasks=0, first=1, most=1))
    grid = Grid(limits, confirm=False).on(FakeDatabase()).submit("S").submit("T").submit("U")
    for name in ("s", "t"):
        grid.say(name, "idle")
    assert grid.guids_sent == ["S", "T"]
    grid.wait(31).set_state(ManagerState.PAUSED).restart().say("t", "working")
    assert [line.split("|")[2:4] for line in grid.logged("TASK_REGAINED")] == [["T", "t"]]


def test_confirmed_dispatches_that_nobody_begins_count() -> None:
    """They are in the queues of workers that take nothing, or die of the task before they say a word."""
    grid = Grid(Limits(missing_interval=1e9, max_attempts=3)).say("a", "idle").submit("T")
    assert beat(grid, "a", seconds=400).outcomes == {"T": Outcome.DEAD}


def test_a_worker_lost_with_an_unconfirmed_dispatch() -> None:
    """That is no attempt either."""
    grid = unconfirmed("a", limits=Limits(max_attempts=1, dispatch_timeout=1e9)).wait(100)
    assert (ends(grid), grid.outcomes, grid.waiting()) == ([AttemptEnd.MISSING], {}, ["T"])


def test_what_counts_as_no_attempt_may_be_completed() -> None:
    """The worker had it after all: what it has done is done, though the manager holds nothing for it."""
    grid = unconfirmed("a").say("a", "offline")
    assert (grid.core.backlog.by_guid["T"].attempts, grid.waiting()) == (0, ["T"])
    assert grid.say("a", "task_complete", task="T").outcomes == {"T": Outcome.COMPLETED}


@pytest.mark.parametrize("seconds", [0, 60])
def test_unconfirmed_is_explained(seconds: int) -> None:
    """While the task counts as dispatched, and when it waits again."""
    grid = beat(unconfirmed("a"), "a", seconds=seconds)
    found = explain(grid.core, "T", grid.now)
    assert found is not None and "not confirmed" in found.text and "a" in found.text


def test_returned_after_another_has_completed_it() -> None:
    """What comes back late leaves nothing undone: the worker is free, and the next plan is made."""
    grid = Grid(confirm=False).say("e", "idle").submit("T").say("e", "working").wait(100).say("a", "idle")
    assert grid.sent[-1] == ("a", "T")
    grid.say("e", "task_complete").turn(events.DispatchFailed(grid.published[-1].attempt, "returned"))
    assert grid.submit("U").say("a", "idle").sent[-1] == ("a", "U")


# --- done, or dead ---


def test_completion_on_the_way_to_the_dead_queue() -> None:
    """Its copy may be there already: it is dead in history, too, and in no other way anywhere."""
    grid = SlowDeadQueue(Limits(max_attempts=1, time_limit=10.0, missing_interval=1e9)).submit("T")
    grid.say("w", "idle").say("w", "working").wait(11)
    [dead_lettered] = [effect for effect in grid.effects if isinstance(effect, effects.DeadLetter)]
    grid.say("w", "task_complete")
    assert grid.outcomes == {}
    assert grid.logged("COMPLETION_IGNORED|w|T|the task is on its way to the dead queue")
    grid.turn(events.DeadLettered(dead_lettered.task_id, dead_lettered.guid))
    assert grid.outcomes == {"T": Outcome.DEAD}


@pytest.mark.parametrize("named", ["T", None])
def test_completion_on_the_way_to_the_dead_queue_after_a_restart(named: str | None) -> None:
    """The same, from whoever says it, for a manager that has read that the task is dead-lettering."""
    limits = Limits(max_attempts=1, time_limit=10.0, missing_interval=1e9)
    grid = (
        SlowDeadQueue(limits).on(FakeDatabase()).submit("T").say("w", "idle").say("w", "working").wait(11)
    )
    grid.restart().say("w", "task_complete", named).say("stranger", "task_complete", "T")
    assert grid.outcomes == {}
    dead_lettered = [effect for effect in grid.effects if isinstance(effect, effects.DeadLetter)]
    assert grid.turn(events.DeadLettered(dead_lettered[-1].task_id, "T")).outcomes == {"T": Outcome.DEAD}


# --- a worker that leaves and comes back ---


def at_work_again(*, at: str) -> Grid:
    """W left and came back under its name; its T is ``dispatched``, or it works on T."""
    grid = Grid().on(FakeDatabase()).say("w", "ready").say("w", "offline").say("w", "ready").submit("T")
    return grid.say("w", "working", "T") if at == "working" else grid


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("at", ["dispatched", "working"])
def test_goodbye_told_again_takes_nothing_from_who_came_back(at: str, restarted: bool) -> None:
    """All that it has said since then is told again as well."""
    grid = at_work_again(at=at)
    grid = grid.restart() if restarted else grid
    grid.say("w", "offline", redelivered=True).say("w", "ready", redelivered=True)
    if at == "working":
        grid.say("w", "working", "T", redelivered=True)
    assert grid.wait(10).status("w") == at
    assert [guid for _, guid in grid.sent] == ["T"] and grid.outcomes == {}
    grid.say("w", "working", "T").say("w", "ready")
    assert grid.outcomes == {"T": Outcome.COMPLETED}


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("at", ["dispatched", "working"])
def test_goodbye_told_again_counts_if_nothing_follows(at: str, crash: bool) -> None:
    """The manager that was told it first has died before it could write."""
    grid = at_work_again(at=at).say("w", "offline", redelivered=True).submit("U")
    assert grid.guids_sent == ["T"], "it gets nothing meanwhile"
    grid = grid.restart() if crash else grid
    grid.wait(2.1)
    assert grid.core.workers.get("w") is None and sorted(grid.waiting()) == ["T", "U"]


@pytest.mark.parametrize("crash", [False, True])
def test_new_life_does_not_end_what_the_old_one_was_at(crash: bool) -> None:
    """It left amid T, which nobody could write, and is back: its *ready* is no completion."""
    grid = at_work_again(at="working").say("w", "offline", redelivered=True)
    grid = grid.restart() if crash else grid
    grid.say("w", "ready")
    assert grid.outcomes == {}
    assert grid.wait(35).logged("DISPATCH_TIMEOUT|t|T|w|") and grid.outcomes == {}
