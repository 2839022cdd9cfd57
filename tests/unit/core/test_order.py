"""Who is next where several worker types compete, suites come and go, and claims can't be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tefmanager.core.model import events
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tests.unit.grid import Grid

PATIENCE = 60.0

LONG = Limits(missing_interval=1e9, time_limit=1e9, dispatch_timeout=1e9, patience=PATIENCE)


def grid_with(**workers: str) -> Grid:
    """Return a grid with resources p and q, one reference each, and free workers of these types."""
    grid = Grid(LONG, resources={name: Resource(name, limit=1) for name in "pq"})
    for name, worker_type in workers.items():
        grid.say(name, "idle", worker_type=worker_type)
    return grid


def done(grid: Grid, name: str, worker_type: str = "t") -> None:
    """Let a worker do what it has, and be free."""
    for word in ("working", "task_complete", "idle"):
        grid.say(name, word, worker_type=worker_type)


def serve(grid: Grid, types: dict[str, str], rounds: int) -> list[str]:
    """Let whoever was sent something last be done with it, again and again; return what was sent."""
    for _ in range(rounds):
        name, _ = grid.sent[-1]
        done(grid, name, types[name])
    return grid.guids_sent


# --- between types ---

TYPES = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}


def contended(*tasks: tuple[str, str, float, str]) -> Grid:
    """Return a grid in which two types wait for p: (guid, type, priority, suite)."""
    grid = grid_with(**TYPES).submit("first", task_type="a", resources=["p"], suite="X")
    for guid, task_type, priority, suite in tasks:
        grid.submit(guid, task_type=task_type, priority=priority, suite=suite, resources=["p"])
    return grid


priorities = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from("ST")), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(priorities)
def test_priorities_hold_across_types(tasks: list[tuple[str, float, str]]) -> None:
    """At a resource that all need, no task goes before one of a higher priority, whatever its type."""
    named = {str(n): task for n, task in enumerate(tasks)}
    grid = contended(*((guid, *task) for guid, task in named.items()))
    order = [named[guid][1] for guid in serve(grid, TYPES, len(tasks))[1:]]
    assert order == sorted((priority for _, priority, _ in tasks), reverse=True)


def test_suites_take_turns_across_types() -> None:
    """A suite has one turn at a resource, with however many types it waits there."""
    tasks = [
        (f"{suite}{kind}{n}", kind, 1.0, suite) for n in range(9) for suite, kind in ("Sa", "Sb", "Tb")
    ]
    sent = serve(contended(*tasks), TYPES, 16)[1:]
    assert Counter(guid[0] for guid in sent) == {"S": 8, "T": 8}
    assert all({one[0], other[0]} == {"S", "T"} for one, other in zip(sent[::2], sent[1::2], strict=True))


def test_without_suites_the_oldest_is_first_across_types() -> None:
    """Types take nothing from each other."""
    tasks = [(f"{n}", "ab"[n % 3 == 0], 1.0, "S") for n in range(12)]
    assert serve(contended(*tasks), TYPES, 12)[1:] == [f"{n}" for n in range(12)]


def test_a_claim_holds_across_types() -> None:
    """What needs two resources is not starved by another type's stream for one of them."""
    grid = contended().submit("held", task_type="b", resources=["q"])
    grid.submit("wide", task_type="b", resources=["p", "q"])
    for number in range(30):
        grid.submit(f"p{number}", task_type="a", resources=["p"])
        grid.submit(f"q{number}", task_type="b", resources=["q"])
        for name, worker_type in TYPES.items():
            if grid.status(name) == "dispatched" and (number + int(name[1])) % 2:
                done(grid, name, worker_type)
        if "wide" in grid.guids_sent:
            break
        grid.wait(10)
    assert PATIENCE <= grid.time <= PATIENCE + 4 * 10


def test_types_without_anything_in_common() -> None:
    """A suite that is served much by one type loses nothing at another."""
    grid = Grid(LONG).say("a", "idle", worker_type="a")
    for number in range(100):
        grid.submit(f"Sa{number}", task_type="a", suite="S")
    for number in range(10):
        for suite in "ST":
            grid.submit(f"{suite}b{number}", task_type="b", suite=suite)
    grid.say("b", "idle", worker_type="b")
    for _ in range(9):
        done(grid, "a", "a")
        done(grid, "a", "a")
        done(grid, "b", "b")
    counts = Counter(guid[0] for guid in grid.guids_sent if guid[1] == "b")
    assert counts == {"S": 5, "T": 5}


def test_who_is_free_goes_if_the_first_is_not() -> None:
    """A type whose workers are all busy keeps no other from what it waits for."""
    grid = (
        grid_with(a1="a", b1="b")
        .submit("other", task_type="b")
        .submit("first", resources=["p"], task_type="a")
    )
    grid.submit("b", task_type="b", resources=["p"], priority=9.0).submit(
        "a", task_type="a", resources=["p"]
    )
    done(grid, "a1", "a")
    assert grid.guids_sent == ["other", "first", "a"]
    done(grid, "b1", "b")
    done(grid, "a1", "a")
    assert grid.guids_sent[-1] == "b"


# --- suites that come and go ---


def test_a_suite_that_runs_empty_in_between() -> None:
    """It has the turns of one that never does, and no more."""
    grid = Grid(LONG).say("w", "idle").submit("x", suite="X")
    for number in range(60):
        grid.submit(f"a{number}", suite="A")
    grid.submit("b0", suite="B")
    for number in range(1, 40):
        done(grid, "w")
        if grid.guids_sent[-1][0] == "b":
            grid.submit(f"b{number}", suite="B")
    counts = Counter(guid[0] for guid in grid.guids_sent)
    assert abs(counts["a"] - counts["b"]) <= 1


@pytest.mark.parametrize("suite", [None, "one each"])
@pytest.mark.parametrize("kind", ["t", "u"])
def test_ever_new_suites(suite: str | None, kind: str) -> None:
    """They leave a quarter of the turns to a suite that is there, at a worker and at a resource."""
    types = {"w": "t", "v": kind}
    grid = grid_with(**types).submit("first", suite="X", resources=["p"])
    for number in range(100):
        grid.submit(f"a{number}", suite="A", resources=["p"])
    for number in range(60):
        grid.submit(f"n{number}", suite=suite and f"{number}", resources=["p"], task_type=kind)
        name, _ = grid.sent[-1]
        done(grid, name, types[name])
    counts = Counter(guid[0] for guid in grid.guids_sent)
    assert counts["a"] >= 15
    assert counts["n"] >= 25


def test_a_newcomer_waits_for_one_round() -> None:
    """It is served when each of the others was served once, and not later."""
    grid = Grid(LONG).say("w", "idle").submit("x", suite="X")
    for number in range(50):
        grid.submit(f"a{number}", suite=f"{number % 5}")
    for _ in range(7):
        done(grid, "w")
    grid.submit("new", suite="new")
    before = len(grid.sent)
    while grid.guids_sent[-1] != "new":
        done(grid, "w")
    assert len(grid.sent) - before <= 6


# --- claims that can't be used ---


def wide_that_claims(**workers: str) -> Grid:
    """Return a grid in which a task of type b claims p and q, of which a1 has p."""
    grid = grid_with(**workers).submit("first", task_type="a", resources=["p"])
    grid.say("a1", "working", worker_type="a").submit(
        "wide", task_type="b", resources=["p", "q"], suite="S"
    )
    grid.wait(PATIENCE + 1)
    claimant = grid.core.backlog.by_guid["wide"]
    assert claimant.claim is not None
    return grid


def test_a_claim_without_a_free_worker_keeps_nobody() -> None:
    """While all workers of its type are at work others have what it claims."""
    grid = wide_that_claims(a1="a", a2="a", b1="b")
    grid.submit("x", task_type="a", resources=["q"])
    assert "x" not in grid.guids_sent  # b1 is free: the claim counts
    grid.submit("long", task_type="b")
    assert grid.guids_sent[-2:] == ["long", "x"]
    done(grid, "a1", "a")
    assert grid.submit("y", task_type="a", resources=["p"]).guids_sent[-1] == "y"


@pytest.mark.parametrize(
    "leave",
    [lambda grid: grid.say("b1", "offline"), lambda grid: grid.say("b1", "working", worker_type="b")],
)
def test_a_worker_that_goes_lets_others_pass(leave: Callable[[Grid], Grid]) -> None:
    """Those that wait for the claim learn of it at once."""
    grid = wide_that_claims(a1="a", a2="a", b1="b").submit("x", task_type="a", resources=["q"])
    assert "x" not in grid.guids_sent
    assert leave(grid).guids_sent[-1] == "x"


def test_a_claim_that_let_others_pass_keeps_the_next_worker() -> None:
    """It would never have a worker and its resources at the same time otherwise."""
    grid = wide_that_claims(a1="a", a2="a", b1="b").submit("long", task_type="b")
    grid.submit("x", task_type="a", resources=["q"])
    assert grid.guids_sent[-1] == "x"
    grid.submit("more", task_type="b")
    done(grid, "b1", "b")
    assert (grid.guids_sent[-1], grid.status("b1")) == (
        "x",
        "idle",
    )  # kept for it, and so is q when it comes
    grid.submit("y", task_type="a", resources=["q"])
    done(grid, "a2", "a")
    assert grid.guids_sent[-1] == "x"
    done(grid, "a1", "a")
    assert grid.sent[-1] == ("b1", "wide")


@pytest.mark.parametrize(
    ("hinder", "priority"),
    [
        (lambda grid: grid.resource("p", 0, held=1), 1.0),
        (lambda grid: grid.turn(events.ResourcesLost("away")), 1.0),
        (lambda grid: grid.suite("pause_suite", "S"), 1.0),
        (lambda grid: grid, 2.0),
    ],
)
def test_a_worker_is_not_kept_for_what_cannot_run(hinder: Callable[[Grid], Grid], priority: float) -> None:
    """Its suite is paused, a resource is closed, Etcd is away; and it is not kept from who goes before."""
    grid = wide_that_claims(a1="a", a2="a", b1="b").submit("long", task_type="b")
    grid.submit("x", task_type="a", resources=["q"])
    hinder(grid)
    done(grid, "b1", "b")
    assert grid.submit("more", task_type="b", priority=priority).guids_sent[-1] == "more"


@pytest.mark.parametrize("length", [1, 3, 20])
def test_a_wide_task_whose_type_has_one_worker(length: int) -> None:
    """Behind streams for its worker and both of its resources it waits for what runs when it can claim."""
    types = {"a1": "a", "a2": "a", "a3": "a", "b1": "b"}
    grid = grid_with(**types)
    ends = dict.fromkeys(types, 0)
    for name in types:
        grid.submit(f"{name} begins", task_type=types[name], resources=["p"] if name == "a1" else [])
    grid.submit("wide", task_type="b", resources=["p", "q"])
    for step in range(300):
        for number, resource in enumerate("pq"):
            grid.submit(f"{resource}{step}", task_type="a", resources=[resource], suite=f"{number}")
        grid.submit(f"b{step}", task_type="b")
        for number, (name, worker_type) in enumerate(types.items()):
            if grid.status(name) == "dispatched" and step >= ends[name]:
                done(grid, name, worker_type)
                ends[name] = step + (length if worker_type == "b" else 2 + number)
        if "wide" in grid.guids_sent:
            break
        grid.wait(10)
    assert "wide" in grid.guids_sent
    assert grid.time <= PATIENCE + 10 * (2 * length + 12)


# --- what is owed ---


def regained() -> Grid:
    """Return a grid in which a worker has come back with a task of p and q, which others have now."""
    limits = Limits(time_limit=1e9, dispatch_timeout=1e9, missing_interval=90.0)
    grid = Grid(limits, resources={name: Resource(name, limit=1) for name in "pq"})
    grid.say("w", "idle").submit("wide", resources=["p", "q"]).say("w", "working").wait(95)
    grid.submit("p0", resources=["p"], priority=2.0).submit("q0", resources=["q"], priority=2.0)
    grid.say("x", "idle").say("y", "idle").say("w", "working")
    assert grid.logged("TASK_REGAINED")
    return grid


def test_what_is_owed_is_taken_before_anything_is_given() -> None:
    """What a worker uses without a reference is given to nobody else, also while the rest is not there."""
    grid = (
        regained().submit("p1", resources=["p"], priority=99.0).submit("q1", resources=["q"], priority=99.0)
    )
    done(grid, "x")
    assert len(grid.sent) == 3
    done(grid, "y")
    assert grid.logged("RESERVATION_TAKEN")
    assert len(grid.sent) == 3
    grid.say("w", "task_complete")
    assert sorted(grid.guids_sent[-2:]) == ["p1", "q1"]


def test_what_is_owed_no_more_is_given() -> None:
    """The task ends before it had its references back."""
    grid = regained().submit("p1", resources=["p"])
    done(grid, "x")
    assert len(grid.sent) == 3
    assert grid.say("w", "task_complete").guids_sent[-1] == "p1"
