"""Etcd is not the one it was: attempts in flight get their references again."""

from __future__ import annotations

from tefmanager.core.model import effects, events
from tefmanager.core.model.resources import Resource
from tests.unit.grid import Grid

OLDER = events.ResourcesReplaced("it is older than it was: revision 5, before 9")


def restored(grid: Grid, held: dict[int, tuple[str, ...]], **counts: int) -> None:
    """Let Etcd come back with these references of ours, and these counts."""
    grid.held = dict(held)
    for name, count in counts.items():
        grid.resources[name] = Resource(name, held=count, limit=1)
    names = {attempt: frozenset(names) for attempt, names in held.items()}
    lost = events.ResourcesLost("connection refused")
    grid.turn(lost, OLDER, events.ResourcesRead(dict(grid.resources), names))


def working() -> Grid:
    """Return a grid in which a task works with two resources."""
    grid = Grid(resources={name: Resource(name, limit=1) for name in ("a", "b")})
    return grid.say("w", "idle").submit("A", resources=["a", "b"]).say("w", "working", "A")


def test_what_is_gone_is_taken_again() -> None:
    """A task at work has all its references again, and the log has one line of what happened."""
    grid = working()
    [attempt] = grid.held
    restored(grid, {}, a=0, b=0)
    assert grid.held == {attempt: ("a", "b")}
    assert grid.logged("RESOURCES_REPLACED") == [f"RESOURCES_REPLACED|{OLDER.reason}"]
    assert len(grid.logged("RESERVATION_TAKEN")) == 1
    grid.say("w", "task_complete")
    assert grid.held == {}


def test_what_is_there_is_kept() -> None:
    """Only what is missing is asked for."""
    grid = working()
    [attempt] = grid.held
    before = len([effect for effect in grid.effects if isinstance(effect, effects.Reserve)])
    restored(grid, {attempt: ("a",)}, a=1, b=0)
    asked = [effect for effect in grid.effects if isinstance(effect, effects.Reserve)][before:]
    assert [each.resources for each in asked] == [("b",)]
    restored(grid, {attempt: ("a", "b")}, a=1, b=1)
    assert grid.core.attempts.owed == {}


def test_what_others_took_meanwhile_is_owed() -> None:
    """It is taken as soon as it is free."""
    grid = working()
    [attempt] = grid.held
    restored(grid, {}, a=0, b=1)
    assert grid.held == {}
    assert list(grid.core.attempts.owed) == [attempt]
    grid.resource("b", 1)
    assert grid.held == {attempt: ("a", "b")}


def test_what_ended_since_is_given_back() -> None:
    """A reference that has come to life again belongs to no attempt."""
    grid = working().say("w", "task_complete")
    assert grid.held == {}
    restored(grid, {1: ("a", "b")}, a=1, b=1)
    assert grid.held == {}
    assert grid.logged("RESERVATION_GIVEN_BACK") == ["RESERVATION_GIVEN_BACK|1|a b"]


def test_what_others_removed_is_taken_again() -> None:
    """A resource that is deleted and made anew while a task has it goes to nobody else."""
    grid = working().say("v", "idle").submit("B", resources=["a"])
    [attempt] = grid.held
    del grid.held[attempt]
    grid.resources["a"] = Resource("a", limit=1)
    grid.turn(events.ResourcesRead(dict(grid.resources), {attempt: frozenset("b")}))
    assert grid.held == {attempt: ("a",)}
    assert grid.logged("RESERVATION_TAKEN") == ["RESERVATION_TAKEN|t|A|w|1|a"]
    grid.say("w", "task_complete")
    assert list(grid.held.values()) == [("a",)]
    assert len(grid.logged("DISPATCH|")) == 2
