"""Who goes next, and to whom: priorities, suites, resources, patience."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.core.model import effects, events
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource, Window
from tefmanager.protocol.messages import ManagerState
from tests.unit.grid import Grid


def run_through(grid: Grid, worker: str = "w") -> list[str]:
    """Let one worker do everything that can be done; return the guids in their order."""
    grid.say(worker, "idle")
    while grid.status(worker) == "dispatched":
        grid.say(worker, "working").say(worker, "task_complete").say(worker, "idle")
    return grid.guids_sent


def test_order_in_a_lane() -> None:
    """Higher priority first; among equals the older."""
    grid = Grid().submit("a").submit("b", priority=2.0).submit("c").submit("d", priority=2.0)
    assert run_through(grid) == ["b", "d", "a", "c"]


def test_suites_take_turns() -> None:
    """Among equals suites share turns, oldest first within a suite."""
    grid = Grid()
    for guid, suite in (("a1", "A"), ("a2", "A"), ("a3", "A"), ("b1", "B"), ("b2", "B"), ("n", None)):
        grid.submit(guid, suite=suite)
    assert run_through(grid) == ["a1", "b1", "n", "a2", "b2", "a3"]


def test_priority_goes_before_turns() -> None:
    """A suite of higher priority has all turns."""
    grid = Grid().submit("b1", suite="B").submit("a1", suite="A", priority=2.0)
    grid.submit("a2", suite="A", priority=2.0)
    assert run_through(grid) == ["a1", "a2", "b1"]


def test_types_are_kept_apart() -> None:
    """A worker gets tasks of its type only."""
    grid = Grid().submit("x", task_type="other", priority=9.0).submit("y").say("w", "idle")
    assert grid.sent == [("w", "y")]


def test_longest_free_worker_first() -> None:
    """Work goes round: the worker that has been free longest is next."""
    grid = Grid().say("v", "idle").say("w", "idle").submit("a").submit("b")
    assert grid.sent == [("v", "a"), ("w", "b")]
    for name in ("w", "v"):
        grid.say(name, "task_complete").say(name, "idle")
    assert grid.submit("c").sent[-1] == ("w", "c")


def test_duplicates() -> None:
    """A guid that waits or is in flight is not queued twice; a finished one may come again."""
    grid = Grid().submit("g").submit("g").say("w", "idle").submit("g")
    assert len(grid.logged("TASK_DUPLICATE|t|g|")) == 2
    assert run_through(grid) == ["g"]
    grid.submit("g", redelivered=True, finished=True)
    assert grid.guids_sent == ["g"]
    assert grid.submit("g", finished=True).guids_sent == ["g", "g"]


@pytest.mark.parametrize("state", [ManagerState.PAUSED, ManagerState.STOPPED])
def test_only_running_dispatches(state: ManagerState) -> None:
    """Tasks are taken in and workers heard in every state."""
    grid = Grid().set_state(state).submit("a").say("w", "idle")
    assert grid.sent == []
    grid.set_state(ManagerState.RUNNING)
    assert grid.sent == [("w", "a")]
    assert grid.logged(f"STATE_CHANGE|running|{state}")


# --- suites ---


def test_pause_holds_what_waits_and_what_comes() -> None:
    """A paused suite's tasks stay, others go on; it is the same for tasks that come later."""
    grid = Grid().submit("a", suite="A").submit("b").suite("pause_suite", "A").submit("c", suite="A")
    assert run_through(grid) == ["b"]
    assert grid.waiting() == ["a", "c"]
    grid.suite("ready_suite", "A")
    assert run_through(grid) == ["b", "a", "c"]


def test_stop_takes_only_what_waits() -> None:
    """Stopped tasks are in history; the one in flight goes on, and later ones are taken in."""
    grid = Grid().say("w", "idle").submit("a", suite="A").submit("b", suite="A").submit("c", suite="B")
    grid.suite("stop_suite", "A")
    assert grid.outcomes == {"b": Outcome.STOPPED}
    assert grid.waiting() == ["c"]
    grid.submit("d", suite="A").say("w", "working").say("w", "task_complete").say("w", "idle")
    assert grid.outcomes["a"] is Outcome.COMPLETED
    assert grid.sent[-1][1] in ("c", "d")


def test_pause_while_etcd_is_asked() -> None:
    """A task whose resources are granted after the pause is not dispatched; they go back."""
    grid = Grid(resources={"r": Resource("r", limit=1)})
    grid.grant = False
    grid.say("w", "idle").submit("a", suite="A", resources=["r"]).suite("pause_suite", "A")
    grid.grant = True
    grid.held[1] = ("r",)
    grid.turn(events.ReservationGranted(1, ("r",)))
    assert grid.sent == []
    assert grid.held == {}
    assert grid.waiting() == ["a"]
    assert grid.suite("ready_suite", "A").guids_sent == ["a"]


# --- resources ---


def test_limit_is_reached_and_never_passed() -> None:
    """Two at a time, with six workers."""
    grid = Grid(resources={"r": Resource("r", limit=2)})
    for number in range(6):
        grid.submit(f"t{number}", resources=["r"]).say(f"w{number}", "idle")
    assert len(grid.sent) == 2
    assert grid.resources["r"].held == 2
    grid.say("w0", "task_complete")
    assert grid.guids_sent == ["t0", "t1", "t2"]


def test_all_or_none() -> None:
    """A task that lacks one of its resources holds none of them."""
    grid = Grid(resources={"a": Resource("a", limit=1), "b": Resource("b", limit=0)})
    grid.submit("both", resources=["a", "b"]).submit("one", resources=["a"]).say("w", "idle")
    assert grid.guids_sent == ["one"]
    assert grid.logged("RESOURCE_WAIT|t|both|b")


def test_short_resource_does_not_hold_others_back() -> None:
    """What waits for a resource costs nothing; the rest goes on."""
    grid = Grid(resources={"r": Resource("r", limit=0)})
    grid.submit("stuck", resources=["r"], priority=9.0).submit("a").submit("b")
    assert run_through(grid) == ["a", "b"]
    assert grid.resource("r", 1).guids_sent == ["a", "b", "stuck"]


def test_unknown_resource_limits_nothing() -> None:
    """The original's rule: no entry, no limit."""
    assert Grid().submit("a", resources=["nowhere"]).say("w", "idle").guids_sent == ["a"]


def test_unknown_resource_holds_back_if_asked_to() -> None:
    """With the option the task waits until somebody makes the entry."""
    grid = Grid(Limits(hold_unknown=True)).submit("a", resources=["r"]).say("w", "idle")
    assert grid.sent == []
    assert grid.resource("r", 1).guids_sent == ["a"]


@pytest.mark.parametrize(
    ("entry", "goes"),
    [
        (Resource("r", held=99, limit=-1), True),
        (Resource("r", limit=5, available=False), False),
        (Resource("r", held=3, limit=3), False),
        (Resource("r", held=2, limit=3), True),
    ],
)
def test_limits(entry: Resource, goes: bool) -> None:
    """-1 is no limit, ``available`` 0 is closed, others' references count."""
    grid = Grid(resources={"r": entry}).submit("a", resources=["r"]).say("w", "idle")
    assert grid.guids_sent == (["a"] if goes else [])


def test_window_wakes_the_waiting() -> None:
    """A server free only from half past twelve is used then, without anybody saying anything."""
    window = Window("night", 12 * 60 + 30, 13 * 60, limit=1)
    grid = Grid(resources={"r": Resource("r", limit=0, windows=(window,))})
    grid.submit("a", resources=["r"]).say("w", "idle")
    for _ in range(29):
        grid.wait(60).say("w", "idle")
    assert grid.sent == []
    grid.wait(61)
    assert grid.now.local >= datetime(2026, 3, 4, 12, 30)
    assert grid.guids_sent == ["a"]


def test_a_fault_of_a_resource_is_told_once_if_it_stays() -> None:
    """A window's keys come one by one, and are no fault meanwhile; what stays wrong is told once."""
    grid, fault = Grid(), "windows/1 has no end_time"
    broken = Resource("broken", faults=(fault,))
    grid.turn(events.ResourcesSeen({"passing": Resource("passing", faults=(fault,)), "broken": broken}))
    grid.turn(events.ResourcesSeen({"passing": Resource("passing")}))
    line = f"RESOURCE_INVALID|broken|{fault}"
    assert grid.wait(2.0).logged("RESOURCE_INVALID") == [line]
    grid.turn(events.ResourcesRead({"broken": broken}, {}))
    assert grid.wait(2.0).logged("RESOURCE_INVALID") == [line]
    grid.turn(events.ResourcesSeen({"broken": None}), events.ResourcesSeen({"broken": broken}))
    assert grid.wait(2.0).logged("RESOURCE_INVALID") == [line, line]


def test_nothing_with_resources_goes_before_etcd_was_read() -> None:
    """Until then tasks with resources wait, and the rest goes on."""
    grid = Grid(grant=False).say("w", "idle").submit("a", resources=["r"]).submit("b")
    assert grid.guids_sent == ["b"]
    grid.grant = True
    grid.say("w", "task_complete").say("w", "idle").turn(events.ResourcesRead({}, {}))
    assert grid.guids_sent == ["b", "a"]


def test_etcd_lost_and_back() -> None:
    """While Etcd is away tasks with resources wait."""
    grid = Grid(resources={"r": Resource("r", limit=1)}).turn(events.ResourcesLost("gone"))
    grid.say("w", "idle").submit("a", resources=["r"])
    assert grid.sent == []
    assert grid.turn(events.ResourcesRead(dict(grid.resources), {})).guids_sent == ["a"]


def test_unknown_answer_is_given_back_before_it_is_tried_again() -> None:
    """Whether the reservation took effect is not known: it is released, and a new one is asked for."""
    grid = Grid(resources={"r": Resource("r", limit=1)})
    grid.grant = False
    grid.say("w", "idle").submit("a", resources=["r"])
    grid.held[1] = ("r",)
    grid.resources["r"] = Resource("r", held=1, limit=1)
    grid.grant = True
    grid.turn(events.ReservationUnknown(1))
    assert grid.guids_sent == ["a"]
    assert list(grid.held) == [2]


def test_refusal_that_is_older_than_what_was_seen() -> None:
    """It does not hold the resource back: the reference that was given back meanwhile is asked for."""
    grid = Grid(resources={"r": Resource("r", limit=1)})
    grid.grant = False
    grid.say("w", "idle").submit("a", resources=["r"])
    grid.grant = True
    grid.turn(events.ReservationRefused(1, "r"))
    assert grid.guids_sent == ["a"]


def test_refusal_without_end() -> None:
    """Where Etcd refuses what seems to be free, it is not asked again and again."""
    grid = Grid(resources={"r": Resource("r", limit=1)})
    grid.grant = False
    grid.say("w", "idle").submit("a", resources=["r"])
    for attempt in range(1, 9):
        grid.turn(events.ReservationRefused(attempt, "r"))
    asked = [effect for effect in grid.effects if isinstance(effect, effects.Reserve)]
    assert len(asked) == 2


def test_undelivered_dispatch_is_undone() -> None:
    """Reservation released, task in its old place, worker missing until it is heard again."""
    grid = Grid(resources={"r": Resource("r", limit=1)}, confirm=False)
    grid.say("w", "idle").submit("a", resources=["r"])
    grid.turn(events.DispatchFailed(grid.published[0].attempt, "312 NO_ROUTE"))
    assert grid.status("w") == "missing"
    assert grid.logged("DISPATCH_FAILED|t|a|w|312 NO_ROUTE")
    assert grid.waiting() == ["a"]
    assert grid.held == {}
    assert grid.say("w", "idle").guids_sent == ["a", "a"]


# --- patience ---


def contended(grid: Grid) -> Grid:
    """Two workers run single-resource tasks on r and s; a task that needs both is next in line."""
    for name, guid, resource in (("v", "v0", "r"), ("w", "w0", "s")):
        grid.say(name, "idle").submit(guid, resources=[resource]).say(name, "working")
    return grid.submit("both", resources=["r", "s"]).say("x", "idle")


def stream(grid: Grid, rounds: int, seconds: float) -> int:
    """Let single-resource tasks come for ever; return how many ran before *both* was sent."""
    for number in range(rounds):
        for name, resource in (("v", "r"), ("w", "s")):
            grid.submit(f"{name}{number + 1}", resources=[resource])
            grid.wait(seconds).say(name, "task_complete").say(name, "idle").say(name, "working")
            if "both" in grid.guids_sent:
                return len(grid.sent)
    return len(grid.sent)


def test_patience() -> None:
    """A task of two resources does not starve behind a stream of tasks that need one of them."""
    limits = Limits(patience=60, missing_interval=1e9, time_limit=1e9)
    grid = contended(Grid(limits, resources={name: Resource(name, limit=1) for name in ("r", "s")}))
    stream(grid, rounds=20, seconds=5)
    assert "both" in grid.guids_sent
    assert grid.time <= 60 + 2 * 2 * 5


def test_without_patience_it_would_starve() -> None:
    """The same stream, and a patience that never ends: the test above can fail."""
    limits = Limits(patience=1e9, missing_interval=1e9, time_limit=1e9)
    grid = contended(Grid(limits, resources={name: Resource(name, limit=1) for name in ("r", "s")}))
    stream(grid, rounds=20, seconds=5)
    assert "both" not in grid.guids_sent


def test_only_who_needs_several_claims() -> None:
    """What needs one resource is served in its turn, and would take from others what they claim."""
    grid = Grid(Limits(patience=60, missing_interval=1e9), resources={"r": Resource("r", limit=0)})
    grid.say("w", "idle").submit("one", resources=["r"]).submit("both", resources=["r", "s"]).wait(61)
    assert grid.logged("RESOURCE_WAIT") == ["RESOURCE_WAIT|t|one|r", "RESOURCE_WAIT|t|both|r"]
    claims = {wait.task.spec.guid: wait.task.claim for wait in grid.core.pool.waits.values()}
    assert claims == {"one": None, "both": 1}


def test_a_claim_goes_before_older_tasks() -> None:
    """In the pool as in the lanes: otherwise it would wait longer than its patience and a task."""
    limits = Limits(patience=60, missing_interval=1e9, time_limit=1e9)
    grid = Grid(limits, resources={name: Resource(name, held=1, limit=1) for name in ("r", "s")})
    for number in range(3):
        grid.submit(f"older{number}", resources=["r"], suite="A")
    grid.submit("both", resources=["r", "s"]).say("w", "idle").wait(61)
    assert grid.resource("r", 2, held=1).sent == []
    assert grid.resource("s", 2, held=1).guids_sent == ["both"]


def test_a_claim_that_ends_lets_others_go() -> None:
    """At once, and not with the next pass."""
    entries = {"r": Resource("r", limit=1), "s": Resource("s", held=1, limit=1)}
    grid = Grid(Limits(patience=60, missing_interval=1e9), resources=entries).say("w", "idle")
    grid.submit("both", suite="A", resources=["r", "s"]).wait(61).submit("one", resources=["r"])
    assert grid.sent == []
    assert grid.suite("stop_suite", "A").guids_sent == ["one"]


def test_backfill_uses_what_nobody_ahead_can_use() -> None:
    """A claim keeps one reference, not the resource; and a claim that cannot be used keeps nothing."""
    limits = Limits(patience=60, missing_interval=1e9)
    entries = {"r": Resource("r", limit=2), "s": Resource("s", held=1, limit=1)}
    grid = Grid(limits, resources=entries).say("w", "idle").submit("both", resources=["r", "s"]).wait(61)
    grid.submit("one", resources=["r"]).say("v", "idle").submit("two", resources=["r"])
    assert grid.guids_sent == ["one"]
    grid.resource("s", 0, held=1).wait(1).turn(events.Pass())
    assert grid.guids_sent == ["one", "two"]


# --- properties ---

NAMES = ["p", "q", "r"]


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[str, ...]]:
    submit = st.tuples(
        st.just("submit"), st.sampled_from("1234"), st.sets(st.sampled_from(NAMES), max_size=3).map("".join)
    )
    say = st.tuples(
        st.just("say"),
        st.sampled_from(["v", "w", "x"]),
        st.sampled_from(["idle", "ready", "working", "task_complete", "offline"]),
    )
    other = st.tuples(st.sampled_from(["wait", "suite", "limit"]), st.sampled_from("0129"), st.just(""))
    return draw(st.lists(submit | say | other, max_size=40))


@given(_histories())
def test_whatever_happens(history: list[tuple[str, ...]]) -> None:
    """Limits are never passed, no task is with two workers, nothing is lost, nothing is held for ever."""
    grid = Grid(Limits(max_attempts=0), resources={name: Resource(name, limit=2) for name in NAMES})
    submitted = []
    for number, (what, first, second) in enumerate(history):
        if what == "submit":
            submitted.append(f"g{number}")
            grid.submit(f"g{number}", priority=float(first), resources=list(second), suite=first)
        elif what == "say":
            grid.say(first, second)
        elif what == "wait":
            grid.wait(float(first) * 12)
        elif what == "suite":
            grid.suite("pause_suite" if first in "01" else "ready_suite", "1")
        else:
            grid.resource("p", int(first) % 3, held=grid.resources["p"].held)
        check(grid, submitted)


def check(grid: Grid, submitted: list[str]) -> None:
    """Hold a grid's memory, its Etcd and what was written against each other."""
    core = grid.core
    in_flight = list(core.attempts.in_flight.values())
    holders = [attempt.task.spec.guid for attempt in in_flight]
    assert len(set(holders)) == len(holders)
    assert sorted([*holders, *grid.waiting(), *grid.outcomes]) == sorted(submitted)
    for name in NAMES:
        held = sum(name in names for names in grid.held.values())
        assert held == grid.resources[name].held
        assert held <= 2
    assert set(grid.held) <= set(core.attempts.in_flight)
    assert not core.attempts.reserving
    assert not core.pool.pending
    for worker in core.workers:
        assert sum(attempt.live for attempt in worker.queue) <= 1
        assert worker.free == (worker in core.workers.free(worker.worker_type))


def test_a_claim_goes_before_the_turn_of_a_suite() -> None:
    """Else the one with the claim would wait for a turn that its own claim keeps from coming."""
    entries = {"r": Resource("r", limit=0), "s": Resource("s", limit=9)}
    grid = Grid(Limits(patience=60, missing_interval=1e9), resources=entries)
    grid.say("w", "idle").submit("a1", suite="A", resources=["r"], priority=2.0).resource("r", 1)
    grid.say("w", "working").submit("a2", suite="A", resources=["r", "s"]).say("v", "idle").wait(61)
    grid.submit("b1", suite="B", resources=["r", "s"])
    assert grid.say("w", "task_complete").sent[-1] == ("v", "a2")
    grid.say("w", "idle").say("v", "working").say("v", "task_complete")
    assert grid.sent[-1] == ("w", "b1")


def test_two_claims_do_not_wait_for_each_other() -> None:
    """The earlier claim counts, whatever is older."""
    limits = Limits(patience=60, missing_interval=1e9, time_limit=1e9)
    entries = {name: Resource(name, held=1, limit=1) for name in ("r", "s")}
    grid = Grid(limits, resources=entries).say("w", "idle").say("v", "idle")
    grid.submit("older", resources=["r", "s"], suite="A", priority=1.0)
    grid.submit("first", resources=["s"], priority=2.0).wait(61)
    grid.submit("younger", resources=["r", "s"], suite="B").wait(61)
    grid.resource("r", 1).resource("s", 2)
    assert grid.guids_sent == ["first", "older"]


def test_claims_in_one_lane_do_not_wait_for_each_other() -> None:
    """A task that comes back to its old place goes behind a younger one whose claim is older."""
    limits = Limits(patience=60, dispatch_timeout=1e9, missing_interval=1e9, time_limit=1e9)
    entries = {
        "r": Resource("r", limit=1),
        "s": Resource("s", held=1, limit=1),
        "t": Resource("t", limit=9),
    }
    grid = Grid(limits, resources=entries)
    grid.say("v", "idle").say("w", "idle").say("u", "idle", worker_type="other")
    grid.submit("older", resources=["r", "t"]).say("v", "working").submit("younger", resources=["r", "t"])
    grid.submit("first", resources=["r", "s"], task_type="other", priority=5.0).wait(61)
    grid.say("w", "offline").say("v", "offline").say("x", "idle").wait(61)
    grid.resource("s", 1, held=0).say("u", "working", worker_type="other")
    grid.say("u", "task_complete", worker_type="other")
    assert grid.guids_sent == ["older", "first", "younger"]
    grid.say("x", "working").say("x", "task_complete").say("x", "idle")
    assert grid.guids_sent[-1] == "older"
