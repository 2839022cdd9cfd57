"""Times and counts that are changed while the manager runs count for what is under way as well."""

from __future__ import annotations

from dataclasses import replace

from tefmanager.core.model import events
from tefmanager.core.model.limits import Limits
from tests.unit.grid import Grid


def change(grid: Grid, **limits: float) -> Grid:
    """Let the operator change some of the limits."""
    grid.limits = replace(grid.limits, **limits)  # type: ignore[arg-type]
    return grid.turn(events.LimitsChanged(grid.limits))


def dispatched() -> Grid:
    """Worker w was sent T, 10 s ago."""
    return Grid().submit("T").say("w", "idle").wait(10)


def test_shorter_dispatch_timeout() -> None:
    """A dispatch that is under way is taken back when the new time is up."""
    grid = change(dispatched(), dispatch_timeout=15.0).wait(4)
    assert grid.logged("DISPATCH_TIMEOUT") == []
    assert grid.wait(1).logged("DISPATCH_TIMEOUT") != []


def test_longer_dispatch_timeout() -> None:
    """A dispatch that is under way gets the longer time."""
    grid = change(dispatched(), dispatch_timeout=40.0).wait(29)
    assert grid.logged("DISPATCH_TIMEOUT") == []
    assert grid.wait(1).logged("DISPATCH_TIMEOUT") != []


def test_time_limit() -> None:
    """A task at work that names none is held to the new limit, and one that names its own is not."""
    grid = Grid().submit("T").submit("own", time_limit=600.0)
    grid.say("v", "idle").say("w", "idle").say("v", "working").say("w", "working").wait(80)
    assert change(grid, time_limit=50.0).logged("WORKER_STALLED") == ["WORKER_STALLED|v|t|T"]


def test_missing_interval() -> None:
    """A worker that has been silent for the new interval is missing at once."""
    grid = Grid().say("w", "idle").wait(60)
    assert grid.logged("WORKER_MISSING") == []
    assert change(grid, missing_interval=30.0).logged("WORKER_MISSING") != []


def test_max_attempts() -> None:
    """The next time that a task is given back it is dead, if it was tried so often already."""
    grid = change(Grid().submit("T").say("w", "idle"), max_attempts=1).say("w", "offline")
    assert grid.logged("TASK_DEAD") != []


def waiting_for_two() -> Grid:
    """T waits for a and b, of which b is held, since 10 s."""
    grid = Grid(limits=Limits(patience=60.0)).resource("a", 1).resource("b", 1)
    grid.submit("B", resources=("b",)).say("v", "idle").say("v", "working")
    return grid.say("w", "idle").submit("T", resources=("a", "b")).wait(10)


def is_claimed(grid: Grid) -> bool:
    """Tell whether T holds its claim."""
    return grid.core.backlog.by_guid["T"].claim is not None


def test_shorter_patience() -> None:
    """Who waits already loses patience when the new time is up, counted from when it began to wait."""
    grid = change(waiting_for_two(), patience=15.0).wait(4)
    assert not is_claimed(grid)
    assert is_claimed(grid.wait(1))


def test_longer_patience() -> None:
    """Who waits already does not lose patience when the old time is up."""
    grid = change(waiting_for_two(), patience=80.0).wait(69)
    assert not is_claimed(grid)
    assert is_claimed(grid.wait(1))


def test_claims_outlast_a_change() -> None:
    """Who holds a claim keeps it, and its place among the claims, whatever the new patience is."""
    grid = waiting_for_two().wait(60)
    claim = grid.core.backlog.by_guid["T"].claim
    assert claim is not None
    assert change(grid, patience=1.0).wait(10).core.backlog.by_guid["T"].claim == claim


def test_unknown_resources() -> None:
    """A task that waited for an unknown resource goes as soon as that limits nothing."""
    grid = Grid(limits=Limits(hold_unknown=True)).submit("T", resources=("x",)).say("w", "idle")
    assert grid.sent == []
    assert change(grid, hold_unknown=False).sent == [("w", "T")]
