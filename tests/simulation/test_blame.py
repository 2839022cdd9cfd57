"""A message that makes the manager fail is found and set aside, and no other with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.values import Bodies, Changes, Moment
from tefmanager.engine.reception import Poisoned
from tefmanager.interfaces.store import StoreConflict
from tests.fakes.store import FakeLeadership
from tests.simulation.grid import Grid


def core_fails(patch: pytest.MonkeyPatch) -> None:
    """Make the core fail on one task."""
    apply = Core.apply

    def failing(core: Core, event: events.Event, now: Moment) -> None:
        if isinstance(event, events.TaskSubmitted) and event.message.guid == "bad":
            raise ValueError("never seen the like")
        apply(core, event, now)

    patch.setattr(Core, "apply", failing)


def database_refuses(patch: pytest.MonkeyPatch) -> None:
    """Make the database refuse whatever belongs to one task."""
    commit = FakeLeadership.commit

    async def failing(leadership: FakeLeadership, changes: Changes) -> Bodies:
        if any(row.spec.guid == "bad" for row, _ in changes.accepted):
            raise StoreConflict("not this one")
        return await commit(leadership, changes)

    patch.setattr(FakeLeadership, "commit", failing)


def planning_fails(patch: pytest.MonkeyPatch) -> None:
    """Make the core fail after it has taken the task in."""
    plan = Core.plan

    def failing(core: Core, now: Moment) -> None:
        if "bad" in core.backlog.by_guid:
            raise ValueError("no plan for this one")
        plan(core, now)

    patch.setattr(Core, "plan", failing)


@pytest.mark.parametrize("break_it", [core_fails, database_refuses, planning_fails])
def test_one_is_set_aside(
    monkeypatch: pytest.MonkeyPatch,
    expected_errors: Callable[..., None],
    break_it: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Of many messages that come together, only this one is rejected, and all others are done."""
    expected_errors(ValueError, Poisoned)
    break_it(monkeypatch)
    grid = Grid(seed=1)
    guids = [f"good{number}" for number in range(40)]
    guids.insert(20, "bad")
    for guid in guids:
        grid.submit(guid, "x", 1.0, (), None, 1.0)
    grid.world.run(600.0)
    rejected: list[Any] = [json.loads(message.body)["guid"] for message in grid.broker.queues["rejected"]]
    done = [finished.row.spec.guid for finished in grid.database.rows.history.values()]
    grid.end()
    assert rejected == ["bad"]
    assert sorted(done) == sorted(set(guids) - {"bad"})
