"""Nothing grows with what is over, nor a dispatch with what waits: counted in looks, and not in seconds."""

from __future__ import annotations

import pytest

from tefmanager.core.model import events
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.timers import Timers
from tefmanager.core.waiting.lanes import Lane
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid

LONG = Limits(missing_interval=1e9, time_limit=1e9, dispatch_timeout=1e9)

DAYS_30 = 30 * 86400.0


def finish(grid: Grid, name: str, worker_type: str) -> None:
    """Let a worker do what it has, and be free."""
    for word in ("working", "task_complete", "idle"):
        grid.say(name, word, worker_type=worker_type)


@pytest.mark.parametrize("free", [True, False])
def test_many_types_at_one_resource(looks: list[Lane], free: bool) -> None:
    """What is given back there wakes one of them, whether the workers of the others are free or at work."""

    def cost(types: int) -> int:
        grid = Grid(LONG, resources={"scarce": Resource("scarce", limit=1)})
        for number in range(types):
            grid.say(f"w{number}", "idle", worker_type=f"t{number}")
            if not free and number > 3:
                grid.submit(f"busy{number}", task_type=f"t{number}")
            for more in range(3):
                grid.submit(f"g{number}.{more}", task_type=f"t{number}", resources=["scarce"])
        for turn in range(20):
            if turn == 2:
                looks.clear()  # by then each has been looked at once since it came
            name, _ = next(each for each in reversed(grid.sent) if not each[1].startswith("busy"))
            finish(grid, name, f"t{name[1:]}")
        return len(looks)

    assert cost(200) <= 2 * cost(20) + 10


def test_many_types_with_nothing_in_common(looks: list[Lane]) -> None:
    """A dispatch of one type looks at no other, whether that has free workers or something to wait for."""

    def cost(types: int) -> int:
        grid = Grid(LONG)
        for number in range(types):
            grid.say(f"w{number}", "idle", worker_type=f"t{number}")
            for more in range(5):
                grid.submit(f"g{number}.{more}", task_type=f"t{number}", suite=f"s{more}")
        looks.clear()
        for _ in range(4):
            finish(grid, "w0", "t0")
        return len(looks)

    assert cost(200) == cost(2)


def test_types_and_suites_that_are_over() -> None:
    """Of what came once nothing is left when it is done."""
    grid = Grid(LONG, resources={"p": Resource("p", limit=1)}).on(FakeDatabase())
    for number in range(100):
        kind = f"t{number}"
        for more in range(2):
            grid.submit(f"g{number}.{more}", task_type=kind, suite=f"s{number}", resources=["p"])
        grid.say("w", "idle", worker_type=kind).say("v", "idle", worker_type=kind)
        while grid.core.backlog.by_guid:
            name, _ = grid.sent[-1]
            finish(grid, name, kind)
    grid.say("w", "offline").say("v", "offline")
    core = grid.core
    assert (core.backlog.type_queues, core.backlog._demands, core.backlog._suites) == ({}, {}, {})
    assert list(core.backlog.shortages()) == []
    assert len(core.backlog.front._queue._entries) < 20
    assert (core.pool.waits, core.pool._claims, core.pool._claims_of) == ({}, {}, {})
    assert (core.workers._free, core.workers._types) == ({}, {})


def test_tasks_that_are_over_leave_no_timers() -> None:
    """Nor do workers that left and waits that ended, however long their limits are."""
    limits = Limits(missing_interval=DAYS_30, patience=DAYS_30, dispatch_timeout=30.0)
    grid = Grid(limits, resources={name: Resource(name, limit=1) for name in "pq"})
    for number in range(100):
        names = (f"w{number}", f"v{number}")
        for name in names:
            grid.say(name, "idle").submit(f"g{name}", time_limit=DAYS_30, resources=["p", "q"])
        for name in names:
            grid.say(name, "working").wait(31).say(name, "task_complete").say(name, "idle").say(
                name, "offline"
            )
    assert grid.core.backlog.by_guid == {}
    assert len(grid.core.timers) < 30


def test_a_cancelled_timer_is_never_called() -> None:
    """And one that was called, or cancelled before, may be cancelled again."""
    timers, called = Timers(), []
    kept = [timers.at(float(number), lambda now: called.append(now)) for number in range(100)]
    for timer in kept[:90]:
        timers.cancel(timer)
        timers.cancel(timer)
    assert len(timers) < 50
    timers.advance(Grid().now)
    assert len(called) == 10
    timers.cancel(kept[-1])
    timers.cancel(None)
    assert timers.next() is None


def test_a_change_of_a_resource_asks_who_waits_there(looks: list[Lane]) -> None:
    """And nobody else, however many types and resources there are."""

    def cost(types: int) -> int:
        grid = Grid(
            LONG, resources={f"r{number}": Resource(f"r{number}", limit=0) for number in range(types)}
        )
        for number in range(types):
            grid.say(f"w{number}", "idle", worker_type=f"t{number}")
            grid.submit(f"g{number}", task_type=f"t{number}", resources=[f"r{number}"])
        looks.clear()
        for _ in range(5):
            grid.turn(events.ResourcesSeen({"r0": grid.resources["r0"]}))
        return len(looks)

    assert cost(100) == cost(2)
