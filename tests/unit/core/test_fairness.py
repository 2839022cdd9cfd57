"""Fairness, whatever waits: priorities, turns of suites, no idle resource, no endless wait."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scenarios.fairness import LONGEST, Stream
from tefmanager.core.model.entities import Task
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tests.unit.grid import Grid

NAMES = ("p", "q", "r")
WORKERS = "uvwxyz"

unhurried = settings(deadline=None)


def priorities_and_suites(most: int) -> st.SearchStrategy[list[tuple[float, str]]]:
    """Return lists of tasks' priorities and suites."""
    return st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from("ABCD")), max_size=most)


@unhurried
@given(priorities_and_suites(30))
def test_priority_first_then_turns(tasks: list[tuple[float, str]]) -> None:
    """No task goes before one of a higher priority; of suites that wait on, none is two turns ahead."""
    grid = Grid(Limits(missing_interval=1e9, time_limit=1e9))
    for number, (priority, suite) in enumerate(tasks):
        grid.submit(str(number), priority=priority, suite=suite)
    while grid.waiting():
        grid.say("w", "idle").say("w", "working").say("w", "task_complete")
    order = [tasks[int(guid)] for guid in grid.guids_sent]
    assert [priority for priority, _ in order] == sorted((priority for priority, _ in tasks), reverse=True)
    for _, level in groupby(order, key=lambda task: task[0]):
        check_turns([suite for _, suite in level])


def check_turns(suites: list[str]) -> None:
    """Go through the suites that were served, and see that those with tasks left take turns."""
    left = Counter(suites)
    served: Counter[str] = Counter()
    for suite in suites:
        served[suite] += 1
        left[suite] -= 1
        counts = [served[other] for other in left if left[other]]
        assert not counts or max(counts) - min(counts) <= 1


Step = tuple[str, str, str]


def steps() -> st.SearchStrategy[list[Step]]:
    """Return histories: tasks that need some of three resources, workers that are done, and more."""
    needs = st.sets(st.sampled_from(NAMES), min_size=1).map("".join)
    submit = st.tuples(st.just("submit"), st.sampled_from("12"), needs)
    finish = st.tuples(st.just("finish"), st.sampled_from(WORKERS), st.just(""))
    limit = st.tuples(st.just("limit"), st.sampled_from(NAMES), st.sampled_from("012"))
    wait = st.tuples(st.just("wait"), st.sampled_from(["1", "7"]), st.just(""))
    stop = st.tuples(st.just("stop_suite"), st.sampled_from("123"), st.just(""))
    return st.lists(submit | submit | finish | finish | limit | wait | stop, min_size=20, max_size=60)


@settings(deadline=None, max_examples=200)
@given(steps(), st.sampled_from([5.0, 1e9]))
def test_nothing_idles_that_somebody_can_use(history: list[Step], patience: float) -> None:
    """While a task waits and a worker is free, it lacks a reference, or claims before it need it."""
    limits = Limits(patience=patience, missing_interval=1e9, time_limit=1e9, dispatch_timeout=1e9)
    grid = Grid(limits, resources={name: Resource(name, limit=1) for name in NAMES})
    for worker in WORKERS:
        grid.say(worker, "idle")
    for number, (what, first, second) in enumerate(history):
        if what == "submit":
            suite = str(number % 3 + 1)
            grid.submit(str(number), priority=float(first), resources=list(second), suite=suite)
        elif what == "finish":
            grid.say(first, "working").say(first, "task_complete").say(first, "idle")
        elif what == "limit":
            grid.resource(first, int(second), held=grid.resources[first].held)
        elif what == "wait":
            grid.wait(float(first))
        else:
            grid.suite(what, first)
        check_use(grid)


def check_use(grid: Grid) -> None:
    """See that every task that waits has a reason to, if a worker is free that it may go to."""
    waiting = [task for task in grid.core.backlog.tasks() if task.lane is not None]
    free = {worker.name for worker in grid.core.workers if worker.free}
    for task in waiting:
        if free - task.avoid:
            assert any(short(grid, name, task, waiting) for name in task.spec.resources), task.spec.guid


def short(grid: Grid, name: str, task: Task, waiting: list[Task]) -> bool:
    """Tell whether a resource has no reference for a task, counted from what the grid's Etcd says."""
    entry = grid.resources[name]
    ahead = [other for other in waiting if other is not task and claims(grid, other, name, task)]
    return entry.limit - entry.held - len(ahead) < 1


def claims(grid: Grid, other: Task, name: str, task: Task) -> bool:
    """Tell whether another task has a claim on a resource that goes before a task, and can be used."""
    if other.claim is None or name not in other.spec.resources:
        return False
    if any(grid.resources[needed].limit == 0 for needed in other.spec.resources):
        return False
    mine = (-task.spec.priority, float("inf") if task.claim is None else task.claim)
    return (-other.spec.priority, other.claim) < mine


@pytest.mark.parametrize("patience", [1, 4, 10, 30])
@pytest.mark.parametrize("seed", range(5))
def test_nobody_waits_for_ever(seed: int, patience: int) -> None:
    """Behind an endless stream, what needs three waits for its patience and the longest task at most."""
    waited, _ = Stream(seed, patience).tell()
    assert 0 < waited <= patience + LONGEST
