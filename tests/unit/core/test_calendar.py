"""What is old: a wall clock that jumps makes nothing old, and forgets nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tefmanager.core.books.calendar import Calendar
from tefmanager.core.model import events
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.values import Moment
from tefmanager.inquiry.resource_answers import resources
from tefmanager.inquiry.worker_answers import workers
from tests.fakes.store import FakeDatabase
from tests.unit.grid import START, Grid

DAY = 86400.0
YEARS = 3650 * DAY
NOON = START.timestamp()


def moment(passed: float, jump: float = 0.0) -> Moment:
    """Return the clocks after some seconds; the wall clock is ahead by others."""
    return Moment(1000.0 + passed, NOON + passed + jump, START + timedelta(seconds=passed))


class Jumping(Grid):
    """A grid whose wall clock may be wrong by ``jump`` seconds."""

    jump = 0.0

    @property
    def now(self) -> Moment:
        """Return the clocks as they stand."""
        right = super().now
        return replace(right, wall=right.wall + self.jump)


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_jump_moves_the_calendar_little(jump: float) -> None:
    """Ahead or back for a few seconds: an hour later it is where it would have been."""
    calendar = Calendar(NOON - 60.0, moment(0))
    for second in range(0, 3600, 10):
        today = calendar.today(moment(second, jump if second == 300 else 0.0))
        assert today <= NOON + second + 300 and today <= NOON + second + max(jump, 0.0)
        assert second == 300 or today > NOON + second - 3 * 3600.0
    assert calendar.today(moment(3600)) == NOON + 3600


def test_a_jump_at_the_start() -> None:
    """A leader that begins with a wrong clock begins where the last one left the calendar."""
    calendar = Calendar(NOON - 60.0, moment(0, YEARS))
    assert calendar.today(moment(1, YEARS)) < NOON + 60
    assert calendar.today(moment(2)) <= NOON + 2


def test_leaders_that_come_and_go_within_a_jump() -> None:
    """None of them believes the clock more than one alone would."""
    day = NOON
    for leader in range(60):
        calendar = Calendar(day, moment(60.0 * leader, YEARS))
        written = calendar.to_write(moment(60.0 * leader + 59, YEARS))
        day = day if written is None else written
    assert NOON + 20 * 3600.0 < day < NOON + 26 * 3600.0
    assert Calendar(day, moment(3600)).today(moment(3600)) <= NOON + 3600


def test_an_idle_week_is_caught_up() -> None:
    """Where nobody led for long, or the rows are those of last week, it arrives after some hours."""
    calendar = Calendar(NOON - 7 * DAY, moment(0))
    assert calendar.today(moment(60)) < NOON - 6 * DAY
    for hour in range(1, 9):
        today = calendar.today(moment(3600.0 * hour))
    assert today == NOON + 8 * 3600.0


def test_a_first_start_with_a_wrong_clock() -> None:
    """Years ahead as there is nothing that could be old yet: some days later a jump removes nothing."""
    calendar = Calendar(None, moment(0, YEARS))
    for hour in range(6 * 24 + 1):
        assert calendar.today(moment(3600.0 * hour)) <= NOON + 3600.0 * hour
    last = 3600.0 * 6 * 24
    assert calendar.today(moment(last + 10, YEARS)) < NOON + last + 300


def test_it_is_written_seldom() -> None:
    """Once at the first start, then each ten minutes; a clock that jumps for a second costs nothing."""
    calendar = Calendar(None, moment(0))
    assert calendar.to_write(moment(0)) == NOON
    found = [calendar.to_write(moment(second, YEARS if second == 9 else 0)) for second in range(3600)]
    assert len([written for written in found if written is not None]) == 5


def test_time_that_was_read_in_another_order() -> None:
    """Who reads the clocks earlier and asks later moves nothing back."""
    calendar = Calendar(NOON, moment(0))
    assert calendar.today(moment(50)) == NOON + 50
    assert calendar.today(moment(40)) == NOON + 40
    assert calendar.today(moment(60)) == NOON + 60


def test_the_next_leader_goes_on_with_it() -> None:
    """One that begins amid a jump, with a last task that ended in it, removes nothing."""
    grid = Jumping(Limits())
    grid.on(FakeDatabase()).turn(events.Pass())
    grid.jump = YEARS
    grid.say("w", "idle").submit("T").say("w", "task_complete").restart().turn(events.Pass())
    assert grid.core.calendar.today(grid.now) < NOON + 60
    grid.jump = 0.0
    assert grid.wait(10.0).restart().core.calendar.today(grid.now) <= NOON + 10


def test_what_ends_while_the_clock_is_behind_is_not_old() -> None:
    """Its age counts from the calendar: it would be gone as soon as the clock is right again."""
    database, grid = FakeDatabase(), Jumping(Limits())
    grid.on(database).turn(events.Pass())
    grid.jump = -YEARS
    grid.say("w", "idle").submit("T").say("w", "task_complete")
    [finished] = database.rows.history.values()
    assert abs(finished.finished_at - NOON) < 60


def test_a_jump_forgets_no_worker() -> None:
    """One that is missing for a minute is not forgotten because the clock is years ahead for a second."""
    grid = Jumping(Limits(forget_after=DAY))
    grid.say("w", "idle").wait(100.0)
    grid.jump = YEARS
    assert grid.turn(events.Pass()).core.workers.get("w") is not None
    grid.jump = 0.0
    assert grid.wait(10.0).turn(events.Pass()).logged("WORKER_FORGOTTEN") == []


def test_who_goes_missing_while_the_clock_is_behind_is_not_forgotten() -> None:
    """It was missing for a minute as the clock is right again, not for years; also for the next leader."""
    grid = Jumping(Limits(forget_after=DAY))
    grid.on(FakeDatabase()).turn(events.Pass())
    grid.jump = -YEARS
    assert grid.say("w", "idle").wait(100.0).status("w") == "missing"
    grid.jump = 0.0
    assert grid.wait(10.0).turn(events.Pass()).restart().turn(events.Pass()).status("w") == "missing"
    assert grid.wait(2 * DAY).turn(events.Pass()).core.workers.get("w") is None


def test_a_jump_ends_no_limit() -> None:
    """Time limits, patience and silence go by the clock that never jumps."""
    grid = Jumping(Limits(dispatch_timeout=30.0))
    grid.say("w", "idle").submit("T", time_limit=50.0)
    for jump in (YEARS, -YEARS):
        grid.jump = jump
        grid.wait(10.0)
    assert grid.say("w", "working").wait(1.0).status("w") == "working"
    assert grid.logged("TASK_RELEASED") == grid.logged("WORKER_MISSING") == []


def test_heard_last_by_an_earlier_leader() -> None:
    """Who is missing was heard last when it was, not when the present leader began."""
    grid = Grid().on(FakeDatabase()).say("w", "idle").wait(300.0).restart().wait(30.0)
    [told] = workers(grid.core, grid.now).workers
    assert (told.status, told.silent) == ("missing", 330.0)


def test_waits_since_before_the_present_leader() -> None:
    """Who waits for a resource has waited since it was first in line, whoever was the leader."""
    grid = Grid().on(FakeDatabase()).resource("db", 0).say("w", "idle").submit("T", resources=["db"])
    began = grid.now.wall
    grid.wait(300.0).restart().say("w", "idle").wait(70.0)
    [told] = resources(grid.core, grid.now).resources
    assert [(each.guid, each.since) for each in told.waiters] == [("T", began)]
    grid.resource("db", 1).say("w", "idle")
    row = next(row for row, _ in grid.leadership._database.rows.tasks.values()) if grid.leadership else None
    assert row is not None and (row.state, row.short_since) == ("dispatched", None)
