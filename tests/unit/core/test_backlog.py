"""A backlog of which only a part is in memory decides as one that is there as a whole."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tefmanager.core.model import effects, events
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import Moment
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid

NAMES = ["p", "q"]
SUITES = [None, "A", "B"]
SMALLEST = Memory(tasks=3, first=1, most=2)
WHOLE = Memory(tasks=10**9)


class Late(Grid):
    """A grid whose Etcd may take its time."""

    late = False
    asked: tuple[effects.Reserve, ...] = ()

    def _answers(self, effect: effects.Effect) -> list[events.Event]:
        if self.late and isinstance(effect, effects.Reserve):
            self.asked += (effect,)
            return []
        return super()._answers(effect)

    def be_late(self) -> Grid:
        """Let Etcd answer no more."""
        self.late = True
        return self

    def be_in_time(self) -> Grid:
        """Let it answer what it was asked."""
        asked, self.asked, self.late = self.asked, (), False
        return self.turn(*[event for effect in asked for event in self._answers(effect)])

    def restart(self) -> Grid:
        """What was asked for is not answered any more."""
        self.asked, self.late = (), False
        return super().restart()


def grid(memory: Memory, patience: float = 1e9) -> Late:
    """Return a grid on rows of its own."""
    limits = Limits(patience=patience, max_attempts=0, memory=memory)
    found = Late(limits, resources={name: Resource(name, limit=1) for name in NAMES})
    found.on(FakeDatabase())
    return found


Step = tuple[str, ...]

_submit = st.tuples(
    st.just("submit"),
    st.sampled_from("12"),
    st.sampled_from(["", "p", "q", "pq"]),
    st.sampled_from(["", "A", "B"]),
    st.sampled_from("ttu"),
)
_say = st.tuples(
    st.just("say"),
    st.sampled_from(["v", "w", "x"]),
    st.sampled_from(["idle", "ready", "ready", "working", "task_complete", "offline"]),
)
_other = st.one_of(
    st.tuples(st.just("again"), st.integers(0, 9).map(str)),
    st.tuples(st.just("takes"), st.sampled_from(["v", "w", "x"]), st.integers(0, 9).map(str)),
    st.tuples(st.just("wait"), st.sampled_from(["1", "11", "31", "100"])),
    st.tuples(
        st.just("suite"),
        st.sampled_from(["pause_suite", "ready_suite", "stop_suite"]),
        st.sampled_from(["A", "B"]),
    ),
    st.tuples(st.just("limit"), st.sampled_from(NAMES), st.sampled_from("012")),
    st.sampled_from([("late",), ("in time",), ("restart",)]),
)
histories = st.lists(st.one_of(_submit, _submit, _say, _say, _other), max_size=60)


def happen(grid: Late, number: int, step: Step) -> None:
    """Let one thing happen."""
    match step:
        case ("submit", priority, resources, suite, task_type):
            fields = {"priority": float(priority), "resources": list(resources), "suite": suite or None}
            grid.submit(f"g{number}", task_type=task_type, **fields)
        case ("again", guid):
            grid.submit(f"g{guid}")
        case ("say", name, status):
            grid.say(name, status, worker_type="u" if name == "x" else "t")
        case ("takes", name, guid):
            grid.say(name, "working", f"g{guid}", worker_type="u" if name == "x" else "t")
        case ("wait", seconds):
            grid.wait(float(seconds))
        case ("suite", command, suite):
            grid.suite(command, suite)
        case ("limit", name, limit):
            grid.resource(name, int(limit), held=grid.resources[name].held)
        case ("late",):
            grid.be_late()
        case ("in time",):
            grid.be_in_time()
        case ("restart",):
            grid.restart()


def bookings(grid: Grid) -> list[tuple[int, str, str]]:
    """Return what was sent to whom, in the order in which it was decided."""
    guids = grid.guids
    return sorted((sent.attempt, guids[sent.task_id], sent.address) for sent in grid.published)


def lines(grid: Grid) -> Counter[str]:
    """Return the log; of a paged-out demand the first task in memory is told to wait."""
    return Counter(line for line in grid.lines if not line.startswith("RESOURCE_WAIT"))


def counts_are_right(grid: Grid) -> None:
    """Hold what is counted against the rows."""
    assert grid.leadership is not None
    backlog = grid.core.backlog
    rows = [row for row, _ in grid.leadership._database.rows.tasks.values()]
    asked = grid.core.attempts.reserving.values()
    booked = {attempt.task.spec.guid for attempt in asked if attempt.live}
    waiting = [row for row in rows if row.state == "waiting" and row.spec.guid not in booked]
    unread = [row for row in rows if row.spec.guid not in backlog.by_guid]
    assert all(row.plain for row in unread)
    assert (backlog.waiting, backlog.unread) == (len(waiting), len(unread))
    for suite in SUITES[1:]:
        assert suite is not None
        assert backlog.suite_size(suite) == sum(row.spec.suite == suite for row in waiting)
    demands = {
        (demand.type_queue.task_type, demand.resources): demand for demand in backlog._demands.values()
    }
    for key, demand in demands.items():
        mine = [row for row in waiting if (row.spec.task_type, row.spec.resources) == key]
        assert demand.size == len(mine)
        assert demand.unread == sum(row in unread for row in mine)
    assert sum(demand.size for demand in demands.values()) == backlog.waiting


@settings(max_examples=600)
@given(histories, st.sampled_from([SMALLEST, Memory(3, 2, 4), Memory(6, 1, 4)]))
def test_the_same_decisions(history: list[Step], memory: Memory) -> None:
    """The same tasks to the same workers in the same order, and the same log, whatever is in memory."""
    part, whole = grid(memory), grid(WHOLE)
    for number, step in enumerate(history):
        for each in (part, whole):
            happen(each, number, step)
            counts_are_right(each)
        assert bookings(part) == bookings(whole)
        assert lines(part) == lines(whole)
        assert part.outcomes == whole.outcomes
    assert whole.core.backlog.unread == 0


@settings(max_examples=100)
@given(histories)
def test_everything_is_done_in_the_end(history: list[Step]) -> None:
    """With patience and claims too, nothing that is not in memory is forgotten."""
    part = grid(SMALLEST, patience=20)
    for number, step in enumerate(history):
        happen(part, number, step)
        counts_are_right(part)
    for name in NAMES:
        part.resource(name, 9, held=part.resources[name].held)
    part.be_in_time().suite("ready_suite", "A").suite("ready_suite", "B")
    workers = {"v": "t", "w": "t", "x": "u"}
    while part.core.backlog.waiting or part.core.attempts.in_flight:
        done = len(part.outcomes)
        for name, worker_type in workers.items():
            for status in ("working", "task_complete", "idle"):
                part.say(name, status, worker_type=worker_type)
        part.wait(31)
        assert len(part.outcomes) > done or part.time < 10_000
    assert part.leadership is not None
    assert part.leadership._database.rows.tasks == {}


# --- single things ---


def filled(memory: Memory, count: int, **fields: object) -> Late:
    """Return a grid with waiting tasks g0, g1 and so on."""
    part = grid(memory, patience=60)
    for number in range(count):
        part.submit(f"g{number}", **fields)
    return part


def in_memory(grid: Grid) -> list[str]:
    """Return what waits in memory."""
    return sorted(grid.waiting())


def test_a_small_backlog_asks_for_nothing() -> None:
    """Up to the limit no query is ever made."""
    part = grid(Memory(tasks=10))
    part.leadership = None  # whoever asks finds nobody
    for number in range(10):
        part.submit(f"g{number}", suite="A")
    part.suite("pause_suite", "A").suite("ready_suite", "A")
    assert (part.core.backlog.unread, part.core.backlog.needs_rows) == (0, False)
    assert part.say("w", "idle").guids_sent == ["g0"]


def test_memory_is_bounded() -> None:
    """Of many tasks that wait few are in memory, whatever they need."""
    part = grid(Memory(tasks=20, first=1, most=4))
    for number in range(500):
        part.submit(f"g{number}", suite=f"S{number % 7}", resources=list(("", "p", "q")[number % 3]))
        assert len(part.waiting()) <= 21
    assert part.core.backlog.waiting == 500


def test_a_paged_out_demand_is_not_read_while_it_is_short() -> None:
    """One task stands for it: it waits, loses patience and claims, as the first in line does."""
    part = filled(Memory(tasks=1, first=1, most=2), 9, resources=["p", "q"])
    part.resource("p", 0).say("w", "idle")
    assert part.logged("RESOURCE_WAIT") == ["RESOURCE_WAIT|t|g0|p"]
    for _ in range(5):
        part.wait(30).say("w", "idle")
    assert in_memory(part) == ["g0"]
    assert part.core.pool.waits[1].task.claim is not None
    assert part.resource("p", 1).guids_sent == ["g0"]


def test_a_suite_that_holds_a_whole_demand() -> None:
    """A demand on which only paused suites wait is read once, and again when one of them is readied."""
    part = filled(Memory(tasks=1, first=1, most=2), 9, suite="A")
    part.submit("c", suite="C").submit("d", suite="D").submit("b", suite="B", resources=["p"])
    for suite in "ACD":
        part.suite("pause_suite", suite)
    part.say("w", "idle")
    assert part.guids_sent == ["b"]
    paged_out = [demand.paged_out for demand in part.core.backlog._demands.values()]
    assert [lane is not None and lane.held for lane in paged_out] == [True]
    part.say("w", "task_complete").say("w", "idle").suite("ready_suite", "B")
    assert in_memory(part) == []
    assert part.suite("ready_suite", "C").guids_sent == ["b", "c"]


def test_a_new_task_wakes_a_demand_that_was_held() -> None:
    """One of a suite that is not paused may go."""
    part = filled(Memory(tasks=1, first=1, most=2), 9, suite="A")
    part.suite("pause_suite", "A").say("w", "idle").submit("b", suite="B")
    assert part.guids_sent == ["b"]


def test_a_task_that_is_not_in_memory_comes_again() -> None:
    """It is a duplicate, as any other."""
    part = filled(Memory(tasks=1, first=1, most=2), 9)
    assert part.submit("g7").logged("TASK_DUPLICATE") == ["TASK_DUPLICATE|t|g7|waiting"]
    assert part.core.backlog.waiting == 9


def test_a_worker_has_a_task_that_is_not_in_memory() -> None:
    """It is the worker's, as any other that waits would be."""
    part = filled(Memory(tasks=1, first=1, most=2), 9).say("w", "working", "g7")
    assert part.logged("TASK_REGAINED")
    part.say("w", "task_complete")
    assert part.outcomes == {"g7": Outcome.COMPLETED}


def test_stopping_a_suite_stops_all_of_it() -> None:
    """In memory or not."""
    part = filled(Memory(tasks=1, first=1, most=2), 9, suite="A").suite("stop_suite", "A")
    assert part.logged("SUITE_STOPPED") == ["SUITE_STOPPED|A|9"]
    assert len(part.outcomes) == 9
    assert part.core.backlog._demands == {}


def test_counts_of_suites_know_of_all() -> None:
    """What is not in memory counts."""
    part = filled(Memory(tasks=1, first=1, most=2), 9, suite="A").suite("pause_suite", "A")
    assert part.logged("SUITE_PAUSED") == ["SUITE_PAUSED|A|9"]
    assert part.restart().suite("ready_suite", "A").logged("SUITE_READIED") == ["SUITE_READIED|A|9"]


def test_what_follows_a_task_that_is_being_reserved() -> None:
    """The only task that is read of a suite may be one that is neither waiting nor in flight."""
    part = filled(Memory(tasks=0, first=1, most=2), 3, suite="A", resources=["p"])
    part.submit("b", suite="B", resources=["p"]).submit("c", suite="C", resources=["p"])
    part.restart().resource("p", 9)
    part.be_late().say("w", "idle")
    assert [demand.paged_out is None for demand in part.core.backlog._demands.values()] == [False]
    for name in ("v", "x", "y"):
        part.say(name, "idle")
    assert part.be_in_time() is part
    assert part.guids_sent == ["g0", "b", "c", "g1"]


def test_a_drained_lane_of_a_demand_that_is_paged_out() -> None:
    """What is unread in it still goes before tasks of lower priority."""
    part = filled(Memory(tasks=0, first=1, most=1), 2, suite="A", priority=5.0)
    part.submit("b", suite="B").submit("c", suite="C").submit(
        "d", priority=3.0, task_type="t", resources=["q"]
    )
    part.say("w", "idle").say("v", "idle")
    assert part.guids_sent == ["g0", "g1"]


@pytest.mark.parametrize(("suites", "most"), [(1, 10), (100, 2)])
def test_planning_seldom_stops(suites: int, most: int) -> None:
    """One lane that runs dry is read in ever larger portions, many that run low are read together."""
    part = grid(Memory(tasks=100, first=4, most=64))
    for number in range(300):
        part.submit(f"g{number}", suite=f"S{number % suites}")
    part.restart().say("w", "idle")
    stops = 0
    plan = part.core.plan

    def watched(now: Moment) -> None:
        nonlocal stops
        plan(now)
        stops += part.core.backlog.needs_rows

    part.core.plan = watched  # type: ignore[method-assign]
    while len(part.sent) < 300:
        part.say("w", "working").say("w", "task_complete").say("w", "idle")
    assert part.guids_sent == [f"g{number}" for number in range(300)]
    assert 0 < stops <= most
