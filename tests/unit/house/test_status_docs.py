"""What ``docs/status.md`` says of metrics and requests is what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from tefmanager.core.model.endings import Outcome
from tefmanager.status.api import ROUTES
from tefmanager.status.journal import Journal
from tefmanager.status.meter import Meter
from tefmanager.status.metrics import ManagerCollector, exposition
from tefmanager.status.openapi import openapi
from tefmanager.status.view import View
from tests.paths import ROOT
from tests.unit.grid import Grid
from tests.unit.house.test_docs import table, words
from tests.unit.status.support import Source
from tests.unit.support.outages import Told

PAGE = (ROOT / "docs/status.md").read_text()


def view_of(grid: Grid | None) -> View:
    """Return a view of a grid's core, or of a manager that is not active."""
    meter = Meter()
    told = Told(1000.0)
    source = Source(None if grid is None else grid.core)
    journal = Journal(meter)
    return View(source, told.now, meter, journal, told.outages, stuck=10.0, actions=False)


def families(view: View) -> Iterator[tuple[str, str]]:
    """Go through names and help of all metrics."""
    for family in ManagerCollector(view).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.documentation


def test_the_page_has_every_metric() -> None:
    """With its meaning, in the order in which they are told."""
    rows = table(PAGE, "metric", "labels", "meaning")
    assert [(words(row[0])[0], row[2]) for row in rows] == list(families(view_of(Grid())))


def test_the_page_has_every_request() -> None:
    """With what it is for; the stream is described at the end."""
    rows = [(words(row[0])[0], row[1]) for row in table(PAGE, "request", "what")]
    assert rows[:-1] == [(f"{route.method} /api/{route.path}", route.text) for route in ROUTES]
    assert rows[-1][0] == "GET /api/stream"


def test_what_is_known_before_begins_with_zero() -> None:
    """Prometheus sees no increase in what was not there: the first dead task would raise no alarm."""
    text = exposition(view_of(None)).decode()
    for outcome in Outcome:
        assert f'tef_tasks_finished_total{{outcome="{outcome.value}"}} 0.0' in text
    assert 'tef_losses_total{service="etcd"} 0.0' in text
    assert "tef_reservation_conflicts_total 0.0" in text
    assert "task_type=" not in text


def test_a_standby_tells_of_itself_alone() -> None:
    """What only the core knows is left out, and nothing fails."""
    names = [name for name, _ in families(view_of(None))]
    assert names[-1] == "tef_healthy"


def test_every_operation_is_described() -> None:
    """The description names all routes, each with its own id and a type for each answer."""
    found = msgspec.json.decode(openapi())
    paths = {
        (method.upper(), path.removeprefix("/api/"))
        for path, operations in found["paths"].items()
        for method in operations
    }
    assert paths == {(route.method, route.path) for route in ROUTES} | {("GET", "stream")}
    ids = [one["operationId"] for each in found["paths"].values() for one in each.values()]
    assert len(set(ids)) == len(ids)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', openapi().decode()))
    assert named <= set(found["components"]["schemas"])
