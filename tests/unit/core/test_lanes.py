"""What a choice among waiting tasks costs, counted in looks at lanes and not in seconds."""

from __future__ import annotations

import itertools

import pytest

from tefmanager.core.model.resources import Resource
from tefmanager.core.waiting.lanes import Lane
from tests.unit.grid import Grid


def grid_with(lanes: int, limit: int, suites: int = 1) -> Grid:
    """Return a grid in which tasks wait in so many lanes, each of which needs two of many resources."""
    names = [f"r{number}" for number in range(2 * int(lanes**0.5) + 2)]
    grid = Grid(resources={name: Resource(name, limit=limit) for name in names})
    pairs = itertools.islice(itertools.combinations(names, 2), lanes)
    for number, pair in enumerate(pairs):
        grid.submit(f"a{number}", resources=list(pair), suite=f"s{number % suites}")
    return grid


def looks_at_each_of(grid: Grid, looks: list[Lane], dispatches: int) -> float:
    """Return how often one worker's dispatch makes the core look at a lane."""
    grid.say("w", "idle")
    looks.clear()
    for _ in range(dispatches):
        grid.say("w", "working").say("w", "task_complete").say("w", "idle")
    assert len(grid.sent) == dispatches + 1
    return len(looks) / dispatches


@pytest.mark.parametrize("suites", [1, 7])
def test_many_lanes(looks: list[Lane], suites: int) -> None:
    """A dispatch looks at no more lanes where ten times as many could go."""
    few = looks_at_each_of(grid_with(40, 9, suites), looks, 20)
    many = looks_at_each_of(grid_with(400, 9, suites), looks, 20)
    assert many <= 2 * few + 10


def test_many_lanes_at_one_resource(looks: list[Lane]) -> None:
    """A reference that is given back makes one lane step forward, not all that wait for it."""

    def cost(lanes: int) -> float:
        names = [f"r{number}" for number in range(lanes)]
        grid = Grid(resources={name: Resource(name, limit=9) for name in (*names, "scarce")})
        grid.resource("scarce", 1)
        for number, name in enumerate(names):
            grid.submit(f"a{number}", resources=["scarce", name], suite=f"s{number % 3}")
        grid.say("v", "idle").say("w", "idle")  # v has the scarce one; w has nothing to do
        looks.clear()
        for worker, other in (("v", "w"), ("w", "v"), ("v", "w"), ("w", "v")):
            grid.say(worker, "working").say(worker, "task_complete")
            assert grid.status(other) == "dispatched"
            grid.say(worker, "idle")
        return len(looks)

    assert cost(400) <= 2 * cost(40) + 10
