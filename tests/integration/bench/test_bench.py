"""The short form of ``script/bench``: our own scenarios with 50 tasks, to see that they measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from benchmarks.case import Case
from benchmarks.grid.grid import Resources
from benchmarks.report import tables
from benchmarks.results import Measurement, Outcome, Results
from benchmarks.scenarios import backlog, intake, latency, throughput
from benchmarks.services.bench import Bench, Options, open_bench
from tefmanager.demo.shared_resources import EtcdV3

TASKS = 50
OPTIONS = Options(TASKS, quick=True)


def chosen() -> Iterator[Case]:
    """Go through the cases that are tried."""
    for resources in (Resources(), Resources(each=3), Resources(each=3, api="v2")):
        yield throughput.grid_case(throughput.GROUP, TASKS, 8, resources)
    yield throughput.grid_case(throughput.GROUP, TASKS, 100, Resources(each=3), throughput.DRAINING)
    yield from (case for case in latency.cases(OPTIONS) if case.facts["who"] in ("bare", throughput.US))
    yield from (case for case in backlog.cases(OPTIONS) if case.facts["waiting"] in (0, 1000))
    yield from intake.cases(OPTIONS)


CASES = list(chosen())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """Servers that don't wait for the disk."""
    with open_bench(OPTIONS, lambda text: None, fast=True) as bench:
        yield bench


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """What the cases brought, by their titles."""
    return {}


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_a_case_is_measured(bench: Bench, outcomes: dict[str, Outcome], case: Case) -> None:
    """Each case ends by itself, with a number to be shown."""
    outcomes[case.title] = case.measure(bench)
    assert outcomes[case.title].values[case.headline] > 0


def test_nothing_is_left_behind(bench: Bench) -> None:
    """The tables and resources of all cases are gone after them."""
    with closing(psycopg2.connect(**bench.database)) as connection, connection.cursor() as cursor:
        cursor.execute("select tablename from pg_tables where schemaname = 'public'")
        assert cursor.fetchall() == []
    assert EtcdV3("http://{}:{}".format(*bench.etcd)).read() == {}


def test_tables_are_made_of_it(outcomes: dict[str, Outcome]) -> None:
    """Every table of the page has a row for what was measured."""
    measurements = [
        Measurement(case.group, case.facts, 1, outcomes[case.title].values, outcomes[case.title].series)
        for case in CASES
        if case.title in outcomes
    ]
    if len(measurements) < len(CASES):
        pytest.skip("not all cases were measured")
    results = Results({"cores": "2"}, measurements)
    for name in ("throughput", "cpu", "latency", "loaded", "backlog", "workers", "intake"):
        head, rule, *rows = tables.TABLES[name](results).splitlines()
        assert rows, name
        assert {row.count("|") for row in (head, rule, *rows)} == {head.count("|")}
