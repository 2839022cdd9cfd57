"""Stopping a suite: of any size, in steps, over restarts, and once for each command."""

from __future__ import annotations

import pytest

from tefmanager.core.model import events
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import StopRow, TaskRow, TaskSpec
from tefmanager.core.stops import KEPT, REMEMBERED
from tefmanager.core.waiting.sweeps import STEP
from tefmanager.protocol.messages import SuiteCommand
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, reported, submitted

MANY = 6 * STEP + 7

IN_MEMORY, IN_ROWS = Memory(), Memory(tasks=3, first=1, most=2)


def grid_with(memory: Memory, count: int, suite: str = "S") -> Grid:
    """Return a grid that begins on so many waiting tasks of a suite, on three demands."""
    database = FakeDatabase()
    for id in range(1, count + 1):
        names = (("p",), ("q",), ())[id % 3]
        spec = TaskSpec(id, f"g{id}", "t", float(id % 2), names, suite, None, 0.0)
        database.rows.tasks[id] = (TaskRow(spec), b"")
    database.rows.manager = type(database.rows.manager)(task_ids=count + 1)
    resources = {name: Resource(name, limit=1) for name in "pq"}
    limits = Limits(missing_interval=1e9, time_limit=1e9, dispatch_timeout=1e9, memory=memory)
    grid = Grid(limits, resources=resources).on(database).restart()
    grid.guids.update({id: row.spec.guid for id, (row, _) in database.rows.tasks.items()})
    return grid


def stop(suite: str = "S", *, redelivered: bool = False) -> events.Commanded:
    """Return the command."""
    return events.Commanded(SuiteCommand("stop_suite", suite), redelivered=redelivered)


def one_turn(grid: Grid, *happened: events.Event) -> None:
    """Take a single turn, whatever is left to do after it."""
    grid._carry_out(grid._plan(list(happened)))


def in_rows(grid: Grid) -> list[str]:
    """Return the tasks that the database knows, in memory or not."""
    assert grid.leadership is not None
    return [row.spec.guid for row, _ in grid.leadership._database.rows.tasks.values()]


def rows(grid: Grid) -> dict[str, StopRow]:
    """Return what the database knows of suites that were stopped."""
    assert grid.leadership is not None
    return grid.leadership._database.rows.stops


@pytest.mark.parametrize("memory", [IN_MEMORY, IN_ROWS])
def test_a_large_suite_is_stopped_in_steps(memory: Memory) -> None:
    """No turn takes more than a step, all of them take all, and the log tells the total once."""
    grid = grid_with(memory, MANY)
    grid.turn(stop())
    assert STEP - 3 <= max(len(changes.finished) for changes in grid.changes) <= STEP
    assert grid.outcomes == dict.fromkeys((f"g{id}" for id in range(1, MANY + 1)), Outcome.STOPPED)
    assert grid.logged("SUITE_STOPPED") == [f"SUITE_STOPPED|S|{MANY}"]
    assert len(grid.logged("TASK_STOPPED")) == MANY
    assert (grid.core.backlog.waiting, grid.core.backlog.unread, grid.core.backlog._demands) == (0, 0, {})


def test_memory_does_not_fill_with_what_is_stopped() -> None:
    """Of tasks that are not in memory one step at a time comes in."""
    grid = grid_with(IN_ROWS, MANY)
    one_turn(grid, stop())
    while grid.core.backlog.needs_rows:
        assert len(grid.core.backlog.by_guid) <= STEP
        one_turn(grid)


@pytest.mark.parametrize("memory", [IN_MEMORY, IN_ROWS])
def test_other_work_goes_on_meanwhile(memory: Memory) -> None:
    """Between two steps others are dispatched, and nothing of the suite, whatever comes of it later."""
    grid = grid_with(memory, MANY)
    one_turn(grid, stop())
    later = submitted("later", suite="S", priority=9.0)
    one_turn(grid, later, submitted("other", suite="T"), reported("w", "idle"))
    for _ in range(2):  # on each demand whose tasks are not in memory something might go before it
        one_turn(grid)
    one_turn(grid)
    assert (grid.guids_sent, grid.logged("SUITE_STOPPED")) == (["other"], [])
    grid.say("w", "working").say("w", "task_complete").say("w", "idle")
    assert grid.guids_sent == ["other", "later"]
    assert grid.logged("SUITE_STOPPED") == [f"SUITE_STOPPED|S|{MANY}"]


@pytest.mark.parametrize("memory", [IN_MEMORY, IN_ROWS])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_restart_goes_on_with_it(memory: Memory, turns: int) -> None:
    """After each turn a new manager can take over; what came after the command is not stopped by it."""
    grid = grid_with(memory, MANY)
    one_turn(grid, stop(), submitted("later", suite="S", resources=["p"]))
    for _ in range(turns - 1):
        one_turn(grid)
    grid.restart().turn()
    assert len(grid.outcomes) == MANY
    assert grid.logged("SUITE_STOPPED") == [f"SUITE_STOPPED|S|{MANY}"]
    assert grid.say("w", "idle").guids_sent == ["later"]


def test_what_is_in_flight_is_left_alone() -> None:
    """Also where it is given back while the others are being stopped, and over a restart."""
    grid = grid_with(IN_MEMORY, MANY).say("w", "idle").say("w", "working")
    grid.confirm = False
    grid.say("v", "idle")
    flying = grid.guids_sent
    assert len(flying) == 2
    one_turn(grid, stop())
    grid.core.apply(events.DispatchFailed(grid.published[-1].attempt, "returned"), grid.now)
    grid.say("w", "offline")
    assert sorted(grid.waiting()) == sorted(flying)
    assert grid.logged("SUITE_STOPPED") == [f"SUITE_STOPPED|S|{MANY - 2}"]
    grid.suite("stop_suite", "S")
    assert grid.waiting() == []


@pytest.mark.parametrize("memory", [IN_MEMORY, IN_ROWS])
def test_a_guid_may_come_anew_at_once(memory: Memory) -> None:
    """A task that is still to be stopped is no duplicate of the one that comes after the command."""
    grid = grid_with(memory, MANY)
    guid = f"g{MANY}"
    one_turn(grid, stop())
    one_turn(grid, submitted(guid, suite="S"))
    grid.turn()
    assert grid.logged("TASK_DUPLICATE") == []
    assert in_rows(grid) == [guid]
    assert grid.logged("SUITE_STOPPED") == [f"SUITE_STOPPED|S|{MANY}"]


def test_a_paused_suite_stays_paused() -> None:
    """Being stopped readies nothing; being readied meanwhile takes effect after it."""
    grid = grid_with(IN_MEMORY, MANY).suite("pause_suite", "S").turn(stop())
    grid.submit("later", suite="S").say("w", "idle")
    assert grid.guids_sent == []
    grid.suite("ready_suite", "S")
    assert grid.guids_sent == ["later"]
    other = grid_with(IN_ROWS, MANY).suite("pause_suite", "S")
    one_turn(other, stop(), submitted("later", suite="S"))
    other.suite("ready_suite", "S").say("w", "idle")
    assert other.guids_sent == ["later"]


def test_two_stops_of_one_suite() -> None:
    """The second takes what came after the first, while that is under way; they end as one."""
    grid = grid_with(IN_MEMORY, MANY)
    one_turn(grid, stop(), submitted("between", suite="S"))
    one_turn(grid, stop(), submitted("after", suite="S"))
    grid.turn()
    assert grid.waiting() == ["after"]
    assert grid.logged("SUITE_STOPPED") == [f"SUITE_STOPPED|S|{MANY + 1}"]


def test_many_suites_at_once() -> None:
    """They share the steps, and none waits for another's end."""
    grid = grid_with(IN_MEMORY, MANY)
    for number in range(3):
        grid.submit(f"a{number}", suite="A")
    one_turn(grid, stop("S"), stop("A"))
    one_turn(grid)
    assert grid.logged("SUITE_STOPPED") == ["SUITE_STOPPED|A|3"]
    grid.turn()
    assert len(grid.outcomes) == MANY + 3


# --- commands that come again ---


def grid_after_a_stop() -> Grid:
    """Return a grid in which a suite was stopped and got another task after that."""
    grid = Grid().on(FakeDatabase()).submit("before", suite="S").turn(stop())
    return grid.submit("after", suite="S")


@pytest.mark.parametrize("restart", [False, True])
def test_a_command_that_comes_again_stops_nothing_new(restart: bool) -> None:
    """Its acknowledgement was lost: it stopped what it was to stop."""
    grid = grid_after_a_stop()
    if restart:
        grid.restart()
    grid.turn(events.DeliveriesResumed(), stop(redelivered=True))
    assert grid.outcomes == {"before": Outcome.STOPPED}
    assert grid.waiting() == ["after"]
    assert grid.logged("SUITE_STOPPED") == ["SUITE_STOPPED|S|1"]


def test_a_command_that_comes_again_and_again() -> None:
    """Each time its acknowledgement may be lost."""
    grid = grid_after_a_stop()
    for _ in range(3):
        grid.turn(events.DeliveriesResumed(), stop(redelivered=True))
    assert grid.restart().turn(events.DeliveriesResumed(), stop(redelivered=True)).waiting() == ["after"]


def test_another_command_is_another_command() -> None:
    """One that is not delivered again stops what waits, and so does one more than there were."""
    assert grid_after_a_stop().turn(stop()).waiting() == []
    grid = grid_after_a_stop().turn(events.DeliveriesResumed(), stop(redelivered=True))
    assert grid.turn(stop(redelivered=True)).waiting() == []
    grid = grid_after_a_stop().turn(stop(redelivered=True))  # on the channel that delivered the first one
    assert grid.waiting() == []


def test_a_command_of_which_nothing_is_known() -> None:
    """It was delivered to a manager that died of something else before it could handle it."""
    grid = Grid().on(FakeDatabase()).submit("before", suite="S")
    grid.turn(events.DeliveriesResumed(), stop(redelivered=True))
    assert grid.outcomes == {"before": Outcome.STOPPED}


def test_what_is_remembered_is_forgotten_again() -> None:
    """When no command can come again, its row goes; a channel that is lost before that keeps it longer."""
    grid = grid_after_a_stop()
    grid.wait(KEPT - 10).turn(events.DeliveriesResumed()).wait(20)
    assert list(rows(grid)) == ["S"]
    grid.wait(2 * KEPT)
    assert (rows(grid), grid.core.stops._stops) == ({}, {})
    assert grid.turn(events.DeliveriesResumed(), stop(redelivered=True)).waiting() == []


def test_what_is_remembered_is_bounded() -> None:
    """Of many suites that were stopped the last ones are known."""
    grid = Grid().on(FakeDatabase())
    grid.turn(*(stop(f"S{number}") for number in range(REMEMBERED)))
    grid.turn(*(stop(f"T{number}") for number in range(9)))
    assert len(rows(grid)) == REMEMBERED
    assert "T8" in rows(grid)
    assert "S0" not in rows(grid)
