"""The demo's verdict: it finds every way in which something may be lost or go wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tefmanager.demo.shared_resources import Use
from tefmanager.demo.suite import LIMITS, SHORTEST, make_suite
from tefmanager.demo.verdict import Verdict, judge, most_at_once

TASKS = make_suite(12, seed=1)
FREE = [Use(name, limit, 0, 0) for name, limit in LIMITS.items()]

Results = dict[str, list[dict[str, Any]]]


def good_results() -> Results:
    """Return results as they should be, of tasks that ran one after the other."""
    found: Results = {}
    for index, task in enumerate(TASKS):
        message = copy.deepcopy(task.message())
        times = {"started": 100.0 + 2 * index, "seconds": task.seconds}
        message["task_data"]["result"] = {**task.expected, "exit_status": 0, "worker": "w", **times}
        found[task.guid] = [message]
    return found


def verdict(results: Results, uses: list[Use] = FREE, sampled: dict[str, int] | None = None) -> Verdict:
    """Judge."""
    return judge(TASKS, 99.0, results, uses, sampled or {})


def test_all_good() -> None:
    """With all results there is no fault, and the times are those of the workers."""
    found = verdict(good_results())
    assert (found.faults, found.done, found.left) == ((), 12, 0)
    assert [row.waited for row in found.rows] == [1.0 + 2 * index for index in range(12)]
    assert found.work == pytest.approx(sum(task.seconds for task in TASKS))
    assert set(found.peaks.values()) == {1}


def _lose(results: Results) -> None:
    del results["demo-03"]


def _double(results: Results) -> None:
    results["demo-03"] *= 2


def _falsify(results: Results) -> None:
    results["demo-03"][0]["task_data"]["result"]["output"] = "3² = 10\n"


def _fail(results: Results) -> None:
    results["demo-03"][0]["task_data"]["result"]["exit_status"] = 1


def _change_task(results: Results) -> None:
    results["demo-03"][0]["priority"] = -1


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (_lose, "no result"),
        (_double, "2 results"),
        (_falsify, "wrong result"),
        (_fail, "wrong result"),
        (_change_task, "wrong result"),
    ],
)
def test_bad_result(spoil: Callable[[Results], None], fault: str) -> None:
    """A result that is lost, double, wrong or of a changed task is a fault of just this task."""
    results = good_results()
    spoil(results)
    found = verdict(results)
    assert found.faults == (f"demo-03: {fault}",)
    assert found.done == 11


def test_reference_left() -> None:
    """A count or a lock key that stays is a fault."""
    uses = [Use("database", 3, 1, 0), Use("licence", 1, 0, 2), Use("server", 2, 0, 0)]
    found = verdict(good_results(), uses)
    assert found.left == 3
    assert found.faults == (
        "database: 1 references and 0 locks left",
        "licence: 0 references and 2 locks left",
    )


def test_limit_passed_in_etcd() -> None:
    """A count above the limit, seen once, is a fault."""
    assert verdict(good_results(), sampled={"server": 3}).faults == ("server: 3 held at once, limit 2",)


def test_limit_passed_by_workers() -> None:
    """Tasks that ran at the same time, by what their workers say, are counted without samples."""
    results = good_results()
    holders = [task for task in TASKS if "licence" in task.resources]
    for task in holders:
        results[task.guid][0]["task_data"]["result"]["started"] = 100.0
    assert most_at_once("licence", TASKS, results) == len(holders) > 1
    assert f"licence: {len(holders)} held at once, limit 1" in verdict(results).faults


def test_end_and_begin_at_one_moment() -> None:
    """A task that begins when another ends is not counted along with it."""
    results = good_results()
    first, second = [task for task in TASKS if "licence" in task.resources][:2]
    found = results[first.guid][0]["task_data"]["result"]
    later = results[second.guid][0]["task_data"]["result"]
    found["started"], found["seconds"], later["started"] = 100.0, 0.5, 100.5
    assert most_at_once("licence", [first, second], results) == 1


def test_suite() -> None:
    """The same seed gives the same suite, another one another; guids are unique, resources are known."""
    assert make_suite(36, 1) == make_suite(36, 1) != make_suite(36, 2)
    suite = make_suite(120, 7)
    assert len({task.guid for task in suite}) == 120
    assert {name for task in suite for name in task.resources} == set(LIMITS)
    assert min(task.seconds for task in suite) == SHORTEST
    assert make_suite(0, 1) == []
