"""Limits and windows of resources: times of day, weekdays, midnight, and which of several counts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tefmanager.core.model.resources import ANY_DAY, MINUTES_A_DAY, UNLIMITED, Resource, Window

unhurried = settings(deadline=None)
SUNDAY = datetime(2024, 1, 7)

times = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2030, 1, 1))
windows = st.builds(
    Window,
    id=st.text(min_size=1, max_size=3),
    start=st.integers(0, MINUTES_A_DAY - 1),
    end=st.integers(0, MINUTES_A_DAY),
    day=st.integers(ANY_DAY, 6),
    available=st.booleans(),
    limit=st.none() | st.integers(UNLIMITED, 5),
)
resources = st.builds(
    Resource,
    name=st.just("r"),
    held=st.integers(0, 8),
    limit=st.integers(UNLIMITED, 5),
    available=st.booleans(),
    windows=st.lists(windows, max_size=4).map(tuple),
)


def at(day: int, clock: str) -> datetime:
    """Return local time: day 0 is a Sunday."""
    hour, minute = clock.split(":")
    return SUNDAY + timedelta(days=day, hours=int(hour), minutes=int(minute))


def window(
    start: str, end: str, day: int = ANY_DAY, available: bool = True, limit: int | None = None
) -> Window:
    """Return a window between two times of day."""
    first, last = at(0, start), at(0, end)
    minutes = [round((moment - SUNDAY).total_seconds()) // 60 for moment in (first, last)]
    return Window("w", minutes[0], minutes[1], day, available, limit)


@pytest.mark.parametrize(
    ("clock", "inside"),
    [("8:59", False), ("9:00", True), ("16:59", True), ("17:00", False), ("0:00", False), ("23:59", False)],
)
def test_window_of_a_day(clock: str, inside: bool) -> None:
    """The first minute is inside, the last is not."""
    assert window("9:00", "17:00").contains(at(3, clock)) is inside


@pytest.mark.parametrize(
    ("clock", "inside"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("0:00", True), ("5:59", True), ("6:00", False)],
)
def test_window_over_midnight(clock: str, inside: bool) -> None:
    """A window that ends before it begins goes on until the next morning."""
    assert window("22:00", "6:00").contains(at(3, clock)) is inside


@pytest.mark.parametrize(
    ("day", "clock", "inside"),
    [
        *[(1, "22:00", True), (1, "23:59", True), (2, "0:00", True), (2, "5:59", True)],
        *[(1, "5:00", False), (2, "6:00", False), (2, "22:00", False), (0, "23:00", False)],
    ],
)
def test_weekday_is_that_of_the_start(day: int, clock: str, inside: bool) -> None:
    """A window of Monday night reaches into Tuesday morning, and not from Sunday into Monday's."""
    assert window("22:00", "6:00", day=1).contains(at(day, clock)) is inside


def test_saturday_night_reaches_into_sunday() -> None:
    """The week is a circle."""
    saturday = window("22:00", "6:00", day=6)
    assert saturday.contains(at(6, "23:00"))
    assert saturday.contains(at(7, "1:00"))
    assert saturday.contains(at(0, "1:00"))
    assert not saturday.contains(at(1, "1:00"))


@pytest.mark.parametrize("day", range(7))
def test_weekdays_count_from_sunday(day: int) -> None:
    """0 is Sunday, 6 is Saturday."""
    days = [number for number in range(7) if window("0:00", "23:59", day=day).contains(at(number, "12:00"))]
    assert days == [day]


def test_whole_day() -> None:
    """From 0:00 to 24:00 is every minute of a day, and of no other."""
    whole = Window("w", 0, MINUTES_A_DAY, day=2)
    assert whole.contains(at(2, "0:00"))
    assert whole.contains(at(2, "23:59"))
    assert not whole.contains(at(3, "0:00"))
    assert not whole.contains(at(1, "23:59"))


def test_empty_window() -> None:
    """A window that ends when it begins has no minute."""
    assert not any(window("9:00", "9:00").contains(at(1, clock)) for clock in ("8:59", "9:00", "9:01"))


@unhurried
@given(windows, times)
def test_a_window_repeats_every_week(one: Window, local: datetime) -> None:
    """What is inside now is inside in a week, and for any day tomorrow."""
    assert one.contains(local) == one.contains(local + timedelta(days=7))
    if one.day == ANY_DAY:
        assert one.contains(local) == one.contains(local + timedelta(days=1))


@unhurried
@given(windows)
def test_a_window_has_as_many_minutes_as_it_says(one: Window) -> None:
    """In a week it contains its length, times the days on which it starts."""
    week = sum(one.contains(SUNDAY + timedelta(minutes=minute)) for minute in range(7 * MINUTES_A_DAY))
    length = one.end - one.start if one.end >= one.start else one.end - one.start + MINUTES_A_DAY
    assert week == length * (7 if one.day == ANY_DAY else 1)


def test_limits() -> None:
    """Outside of windows the resource's own limit holds; inside the strictest of theirs."""
    own = Resource("r", limit=3)
    assert own.limit_at(at(1, "12:00")) == 3
    loose, strict = window("9:00", "17:00", limit=9), window("11:00", "13:00", limit=1)
    both = Resource("r", limit=3, windows=(loose, strict))
    assert [both.limit_at(at(1, clock)) for clock in ("8:00", "10:00", "12:00")] == [3, 9, 1]


@pytest.mark.parametrize(
    ("inside", "limit"),
    [
        (window("0:00", "24:00", available=False), 0),
        (window("0:00", "24:00", available=False, limit=5), 0),
        (window("0:00", "24:00"), 3),
        (window("0:00", "24:00", limit=UNLIMITED), UNLIMITED),
        (window("0:00", "24:00", limit=0), 0),
    ],
)
def test_what_a_window_changes(inside: Window, limit: int) -> None:
    """Not available closes it, no limit given leaves it, -1 opens it without a limit."""
    assert Resource("r", limit=3, windows=(inside,)).limit_at(at(1, "12:00")) == limit


def test_a_closed_resource_stays_closed_in_windows() -> None:
    """``available = 0`` of the resource itself is stronger than any window."""
    open_window = window("0:00", "24:00", limit=UNLIMITED)
    closed = Resource("r", limit=UNLIMITED, available=False, windows=(open_window,))
    assert closed.limit_at(at(1, "12:00")) == 0
    assert closed.free_at(at(1, "12:00")) == 0


@pytest.mark.parametrize(
    ("held", "limit", "free"), [(0, 2, 2), (2, 2, 0), (5, 2, 0), (5, UNLIMITED, float("inf")), (0, 0, 0)]
)
def test_free(held: int, limit: int, free: float) -> None:
    """What is free is never negative, and endless without a limit."""
    assert Resource("r", held=held, limit=limit).free_at(at(1, "12:00")) == free


@unhurried
@given(resources, times)
def test_free_never_passes_the_limit(resource: Resource, local: datetime) -> None:
    """Taking all that is free ends at the limit."""
    limit, free = resource.limit_at(local), resource.free_at(local)
    assert free >= 0
    if limit != UNLIMITED:
        assert free == 0 or resource.held + free == limit
    if not resource.available:
        assert free == 0
