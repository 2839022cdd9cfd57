"""The contract of `IStore` and `ILeadership`, kept by PostgreSQL and by the fake."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeVar

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tefmanager.core.model.dead_copies import Copy, CopyRow, Stored
from tefmanager.core.model.endings import AttemptEnd, Finish, Outcome
from tefmanager.core.model.past import NOW, PastFilter, PastPage, Place
from tefmanager.core.model.values import (
    NOTHING,
    AttemptRow,
    Changes,
    Doubt,
    FinishedRow,
    ManagerRow,
    Snapshot,
    StopRow,
    Stretch,
    TaskRow,
    TaskSpec,
    TaskState,
    Unread,
    WorkerRow,
    WorkerStatus,
)
from tefmanager.interfaces.store import (
    MOST_ATTEMPTS,
    ILeadership,
    IReader,
    IStore,
    LeadershipOver,
    StoreConflict,
    StoreLost,
)
from tefmanager.protocol.messages import ManagerState
from tefmanager.protocol.verdicts import Result, Verdict
from tests.contract.stores import FakeTwin, Past, RealTwin, Twin

T = TypeVar("T")
DEADLINE = 45.0


def soon(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run it, and let it fail when it takes too long."""
    return Deferred.fromCoroutine(coroutine).addTimeout(DEADLINE, reactor)


def silent(text: str) -> None:
    """Take what is being waited for."""


class Told(list[str]):
    """Texts that `on_wait` was told; its ``first`` fires soon after the first, outside of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Deferred[str] = Deferred()

    def __call__(self, text: str) -> None:
        self.append(text)
        if len(self) == 1:
            reactor.callLater(0, self.first.callback, text)


@pytest.fixture(params=["fake", "real"])
def twin(request: pytest.FixtureRequest, unique: str) -> Iterator[Twin]:
    """A database of its own."""
    if request.param == "fake":
        yield FakeTwin()
        return
    real = RealTwin(request.getfixturevalue("services").database, f"t_{unique}_")
    try:
        yield real
    finally:
        real.close()


@pytest.fixture
def leadership(twin: Twin) -> Iterator[ILeadership]:
    """A leadership over it."""
    begun = pytest_twisted.blockon(soon(twin.store().leadership(silent)))
    yield begun
    pytest_twisted.blockon(soon(begun.end()))


def task(id: int, **fields: Any) -> TaskRow:
    """Return a row of a waiting task."""
    spec = TaskSpec(id, f"guid-{id}", "type", 1.0, (), None, None, 1.5)
    spec = replace(
        spec, **{key: fields.pop(key) for key in list(fields) if key in TaskSpec.__struct_fields__}
    )
    return TaskRow(spec, **fields)


def in_flight(row: TaskRow, attempt: int, worker: str = "w") -> TaskRow:
    """Return the row of a task that was dispatched."""
    return replace(
        row, state=TaskState.DISPATCHED, attempts=1, attempt=attempt, worker=worker, dispatched=2.5
    )


def ended(id: int, task_id: int, **fields: Any) -> AttemptRow:
    """Return the row of an attempt that ended."""
    row = AttemptRow(id, task_id, f"guid-{task_id}", 1, "w", 2.0, None, 3.0, AttemptEnd.OFFLINE)
    return replace(row, **fields)


def ageless(found: Snapshot) -> Snapshot:
    """Return rows without the age of the database, which only a real one has."""
    return replace(found, manager=replace(found.manager, state_since=None))


# What may stand in rows -------------------------------------------------------------------------

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
names = st.lists(texts, max_size=4, unique=True).map(lambda found: tuple(sorted(found)))
times = st.integers(0, 4 * 10**15).map(lambda micros: micros / 1e6)
bodies = st.binary(max_size=300)
numbers = itertools.count(10**6)
ids = st.builds(lambda: next(numbers))
finite = st.floats(allow_nan=False, allow_infinity=False)
limits = st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False)
specs = st.builds(
    lambda id, guid, **known: TaskSpec(id=id, guid=f"{guid}{id}", **known),
    ids,
    texts,
    task_type=texts,
    priority=finite,
    resources=names,
    suite=st.none() | texts,
    time_limit=limits,
    received=times,
)


@st.composite
def rows(draw: st.DrawFn) -> TaskRow:
    """Rows that a task may have."""
    row = TaskRow(
        draw(specs),
        draw(st.sampled_from(TaskState)),
        draw(st.integers(0, 2**31 - 1)),
        avoid=draw(names),
        short_since=draw(st.none() | times),
        tried=draw(st.booleans()),
    )
    if row.state in (TaskState.WAITING, TaskState.DEAD_LETTERING):
        return row
    started = st.none() if row.state is TaskState.DISPATCHED else times
    return replace(
        row,
        attempt=next(numbers),
        worker=draw(texts),
        dispatched=draw(times),
        started=draw(started),
        doubt=draw(st.none() | st.sampled_from(Doubt)),
    )


attempt_rows = st.builds(
    AttemptRow,
    id=ids,
    task_id=ids,
    guid=texts,
    number=st.integers(1, 1000),
    worker=texts,
    dispatched=times,
    started=st.none() | times,
    ended=times,
    end=st.sampled_from(AttemptEnd),
    unresolved=st.booleans(),
)
worker_rows = st.builds(
    WorkerRow, texts, texts, texts, st.sampled_from(WorkerStatus), times, st.none() | times
)
many_workers = st.lists(worker_rows, max_size=4).map(lambda found: {row.name: row for row in found})
many_stops = st.lists(
    st.builds(
        StopRow,
        suite=texts,
        below=ids,
        spared=st.lists(ids, max_size=3).map(tuple),
        commands=st.integers(1, 2**31 - 1),
        stopped=st.integers(0, 2**63 - 1),
        over=st.booleans(),
    ),
    max_size=3,
).map(lambda found: {row.suite: row for row in found})
manager_rows = st.builds(
    ManagerRow,
    st.sampled_from(ManagerState),
    st.integers(1, 2**63 - 1),
    st.integers(1, 2**63 - 1),
    state_since=times,
    calendar=times,
)


def drawn(strategy: st.SearchStrategy[T]) -> list[T]:
    """Return some examples. Hypothesis itself can not wait for an answer between two of them."""
    found: list[T] = []

    @settings(max_examples=25, database=None)
    @given(strategy)
    def collect(example: T) -> None:
        found.append(example)

    collect()
    return found


# Round trips ------------------------------------------------------------------------------------


def test_interfaces_are_provided(twin: Twin, leadership: ILeadership) -> None:
    """Every method has the signature that the interface gives it."""
    assert verifyObject(IStore, twin.store())
    assert verifyObject(ILeadership, leadership)
    assert verifyObject(IReader, leadership.reader)


@pytest_twisted.ensureDeferred
async def test_an_empty_database_says_nothing(leadership: ILeadership) -> None:
    """The first leadership finds the defaults."""
    assert ageless(await leadership.load()) == Snapshot()


@pytest_twisted.ensureDeferred
async def test_tasks_come_back_as_they_were(leadership: ILeadership) -> None:
    """Every field of a task's row, and its body byte for byte."""
    for accepted in drawn(st.lists(st.tuples(rows(), bodies), max_size=4)):
        wanted = [row.spec.id for row, _ in accepted]
        await leadership.commit(Changes(accepted=list(accepted)))
        found = {row.spec.id: row for row in (await leadership.load()).tasks}
        assert [repr(found[id]) for id in wanted] == [repr(row) for row, _ in accepted]
        assert await leadership.commit(Changes(bodies=wanted)) == {
            row.spec.id: body for row, body in accepted
        }


@pytest_twisted.ensureDeferred
async def test_a_task_can_change_from_and_to_any_row(leadership: ILeadership) -> None:
    """All fields but those of its spec, which never change."""
    for old, new in drawn(st.tuples(rows(), rows())):
        changed = replace(new, spec=old.spec)
        await leadership.commit(Changes(accepted=[(old, b"")]))
        await leadership.commit(Changes(tasks={old.spec.id: changed}))
        assert changed in (await leadership.load()).tasks


@pytest_twisted.ensureDeferred
async def test_attempts_come_back_as_they_were(leadership: ILeadership) -> None:
    """By their task; the unresolved ones when a leadership begins too."""
    for attempt in drawn(attempt_rows):
        await leadership.commit(Changes(attempts=[attempt]))
        assert await leadership.attempts(attempt.task_id) == [attempt]
        assert (attempt in (await leadership.load()).unresolved) is attempt.unresolved


@pytest_twisted.ensureDeferred
async def test_the_rest_comes_back_as_it_was(leadership: ILeadership) -> None:
    """Workers, the manager's row, suites paused and stopped; and the names that were removed do not."""
    for workers, manager, paused, stops in drawn(
        st.tuples(many_workers, manager_rows, st.sets(texts, max_size=3), many_stops)
    ):
        await leadership.commit(
            Changes(manager=manager, workers=workers, paused=[*paused, *paused], stops=stops)
        )
        found = await leadership.load()
        assert {row.name: row for row in found.workers} == workers
        assert (found.manager, set(found.paused_suites)) == (manager, paused)
        assert {row.suite: row for row in found.stops} == stops
        gone = Changes(left=list(workers), readied=list(paused), stops_forgotten=[*stops, *stops])
        await leadership.commit(gone)
        assert await leadership.load() == Snapshot(manager)


@pytest_twisted.ensureDeferred
async def test_a_stop_that_was_forgotten_may_come_anew(leadership: ILeadership) -> None:
    """In one commit; and what is written of it last counts."""
    first, second = StopRow("s", 5, (1, 2), 1, 0, False), StopRow("s", 9, (), 2, 7, True)
    await leadership.commit(Changes(stops={"s": first}))
    await leadership.commit(Changes(stops={"s": second}, stops_forgotten=["s"]))
    assert (await leadership.load()).stops == (second,)


@pytest_twisted.ensureDeferred
async def test_a_part_of_a_lane_below_an_id(leadership: ILeadership) -> None:
    """What came later is left out, wherever its priority puts it."""
    rows = [task(id, priority=float(id % 2), suite="s") for id in range(1, 9)]
    await leadership.commit(Changes(accepted=[(row, b"") for row in rows]))
    lane = rows[0].spec
    stretch = Stretch(lane.task_type, lane.resources, "s", NOTHING, 3, below=6)
    [found] = await leadership.following([stretch])
    assert [row.spec.id for row in found] == [1, 3, 5]
    [rest] = await leadership.following([replace(stretch, after=found[-1].spec.order)])
    assert [row.spec.id for row in rest] == [2, 4]


@pytest.mark.parametrize("priority", [-0.0, 1e308, -1e308, 5e-324, 0.1])
@pytest_twisted.ensureDeferred
async def test_priorities_are_exact(leadership: ILeadership, priority: float) -> None:
    """To the last bit, the sign of zero too."""
    await leadership.commit(Changes(accepted=[(task(1, priority=priority), b"")]))
    [row] = (await leadership.load()).tasks
    assert row.spec.priority.hex() == priority.hex()


@pytest_twisted.ensureDeferred
async def test_a_body_of_16_mib(leadership: ILeadership) -> None:
    """The largest message there may be, of all bytes."""
    body = bytes(range(256)) * 2**16
    await leadership.commit(Changes(accepted=[(task(1), body)]))
    found = await leadership.commit(Changes(bodies=[1]))
    assert found[1] == body


@pytest_twisted.ensureDeferred
async def test_a_worker_changes(leadership: ILeadership) -> None:
    """A known name gets the new row, the others stay."""
    one = WorkerRow("one", "type", "queue", WorkerStatus.IDLE, 1.0)
    two = replace(one, name="two")
    await leadership.commit(Changes(workers={"one": one, "two": two}))
    changed = WorkerRow("two", "other", "elsewhere", WorkerStatus.MISSING, 2.0, heard=1.5)
    await leadership.commit(Changes(workers={"two": changed}))
    assert (await leadership.load()).workers == (one, changed)


@pytest_twisted.ensureDeferred
async def test_tasks_are_loaded_by_age(leadership: ILeadership) -> None:
    """In the order of their ids, whatever the order in which they were written."""
    await leadership.commit(Changes(accepted=[(task(id), b"") for id in (5, 1, 2**62, 3)]))
    assert [row.spec.id for row in (await leadership.load()).tasks] == [1, 3, 5, 2**62]


@pytest_twisted.ensureDeferred
async def test_no_changes_are_a_commit_too(leadership: ILeadership) -> None:
    """They write nothing and return nothing."""
    assert await leadership.commit(Changes()) == {}
    assert ageless(await leadership.load()) == Snapshot()


# A backlog that is read in part -----------------------------------------------------------------


def waiting(id: int, priority: float, resources: str = "", suite: str | None = None) -> TaskRow:
    """Return a plain row; each letter is a resource."""
    return task(id, priority=priority, resources=tuple(resources), suite=suite)


def numbers_of(rows: Iterable[TaskRow]) -> list[int]:
    """Return ids."""
    return [row.spec.id for row in rows]


BACKLOG = [
    waiting(1, 1.0, "r", "A"),
    waiting(2, 3.0, "r", "B"),
    waiting(3, 1.0, "r", "A"),
    waiting(4, 3.0, "r", "A"),
    waiting(5, 2.0, "rs", "A"),
    waiting(6, 1.0),
    waiting(7, 1.0),
    waiting(8, -1.5, "r"),
    replace(waiting(9, 9.0, "r", "A"), attempts=1),
    replace(waiting(10, 9.0, "r", "A"), avoid=("w",)),
    in_flight(waiting(11, 9.0, "r", "A"), 4),
    replace(waiting(12, 9.0, "q", "C"), state=TaskState.DEAD_LETTERING),
    replace(waiting(13, 5.0, "r", "A"), spec=replace(waiting(13, 5.0, "r", "A").spec, task_type="other")),
]


@pytest_twisted.ensureDeferred
async def test_a_large_backlog_is_counted(leadership: ILeadership) -> None:
    """What waits is counted by demand and by suite; only the first task of each demand is read."""
    await leadership.commit(Changes(accepted=[(row, b"") for row in BACKLOG]))
    assert await leadership.load(len(BACKLOG)) == await leadership.load()
    found = await leadership.load(len(BACKLOG) - 1)
    assert numbers_of(found.tasks) == [2, 5, 6, 9, 10, 11, 12, 13]
    assert set(found.unread) == {Unread("type", ("r",), 4, 3.0), Unread("type", (), 1, 1.0)}
    assert found.unread_suites == {("type", "A"): 3, ("type", None): 2}
    assert found.count == len(BACKLOG)
    assert (await leadership.load()).tasks == tuple(BACKLOG)


@pytest_twisted.ensureDeferred
async def test_tasks_by_guid(leadership: ILeadership) -> None:
    """By id; those that are not there, or in history, are left out."""
    await leadership.commit(Changes(accepted=[(row, b"") for row in BACKLOG]))
    await leadership.commit(Changes(finished={3: Finish(Outcome.DEAD, 1.0)}))
    found = await leadership.tasks(["guid-6", "guid-1", "guid-3", "nothing", "guid-1", "guid-9"])
    assert list(found) == [BACKLOG[0], BACKLOG[5], BACKLOG[8]]
    assert list(await leadership.tasks([])) == []


@pytest_twisted.ensureDeferred
async def test_heads_of_a_demand(leadership: ILeadership) -> None:
    """The first plain tasks of each suite, by priority and age; other types and resources do not matter."""
    await leadership.commit(Changes(accepted=[(row, b"") for row in BACKLOG]))
    assert _by_suite(await leadership.heads("type", ["r"], 2)) == {"A": [4, 1], "B": [2], None: [8]}
    assert _by_suite(await leadership.heads("type", ["r"], 9)) == {"A": [4, 1, 3], "B": [2], None: [8]}
    assert _by_suite(await leadership.heads("type", [], 1)) == {None: [6]}
    assert _by_suite(await leadership.heads("type", ["s"], 1)) == {}
    assert _by_suite(await leadership.heads("none", ["r"], 1)) == {}


def _by_suite(rows: Iterable[TaskRow]) -> dict[str | None, list[int]]:
    return {suite: numbers_of(same) for suite, same in groupby(rows, lambda row: row.spec.suite)}


@pytest_twisted.ensureDeferred
async def test_heads_of_very_many_suites(leadership: ILeadership) -> None:
    """They are read in portions, and none is left out."""
    rows = [waiting(id, id % 3, "r", f"suite {id % 1201}") for id in range(1, 3001)]
    await leadership.commit(Changes(accepted=[(row, b"") for row in rows]))
    wanted = groupby(
        sorted(rows, key=lambda row: (row.spec.suite, row.spec.order)), lambda row: row.spec.suite
    )
    found = _by_suite(await leadership.heads("type", ["r"], 2))
    assert found == {suite: numbers_of(same)[:2] for suite, same in wanted}


@pytest_twisted.ensureDeferred
async def test_what_follows_in_lanes(leadership: ILeadership) -> None:
    """After a place, up to a number, lane by lane as they were asked for."""
    await leadership.commit(Changes(accepted=[(row, b"") for row in BACKLOG]))
    whole = Stretch("type", ("r",), "A", NOTHING, 9)
    stretches = [
        whole,
        replace(whole, at_most=2),
        replace(whole, after=BACKLOG[3].spec.order),
        replace(whole, after=BACKLOG[0].spec.order, at_most=1),
        replace(whole, suite=None),
        replace(whole, suite="C"),
        replace(whole, resources=(), suite=None, after=BACKLOG[5].spec.order),
        whole,
    ]
    found = await leadership.following(stretches)
    wanted = [[4, 1, 3], [4, 1], [1, 3], [3], [8], [], [7], [4, 1, 3]]
    assert [numbers_of(rows) for rows in found] == wanted
    assert list(await leadership.following([])) == []


@pytest_twisted.ensureDeferred
async def test_any_demand_can_be_read(leadership: ILeadership) -> None:
    """Whatever its names are, and however many."""
    for accepted in drawn(st.lists(st.tuples(rows(), bodies), min_size=1, max_size=4)):
        row = replace(accepted[0][0], state=TaskState.WAITING, attempt=None, worker=None)
        row = replace(row, dispatched=None, started=None, attempts=0, tried=False, avoid=())
        spec = replace(row.spec, suite=row.spec.suite or None)
        row = replace(row, spec=spec)
        await leadership.commit(Changes(accepted=[(row, b"")]))
        assert row in await leadership.heads(spec.task_type, spec.resources, 1000)
        stretch = Stretch(spec.task_type, spec.resources, spec.suite, NOTHING, 1000)
        [found] = await leadership.following([stretch])
        assert row in found
        assert list(await leadership.tasks([spec.guid])) == [row]


@pytest_twisted.ensureDeferred
async def test_names_as_long_as_they_may_be(leadership: ILeadership) -> None:
    """A thousand of them, of 255 bytes each, stand in no index."""
    names = tuple(f"{number:0>255}" for number in range(1000))
    row = task(1, guid="g" * 255, task_type="t" * 255, suite="s" * 255, resources=names)
    await leadership.commit(Changes(accepted=[(row, b"")]))
    assert list(await leadership.heads("t" * 255, names, 1)) == [row]


# A task's way -----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_dispatched_released_and_finished(twin: Twin, leadership: ILeadership) -> None:
    """Over four commits: what is in flight, what is unresolved and what is history is right each time."""
    row = task(1)
    await leadership.commit(Changes(accepted=[(row, b"body")]))
    await leadership.commit(Changes(tasks={1: in_flight(row, 7)}))
    assert (await leadership.load()).tasks == (in_flight(row, 7),)
    released, lost = replace(row, attempts=1, avoid=("w",)), ended(7, 1, unresolved=True)
    await leadership.commit(Changes(tasks={1: released}, attempts=[lost]))
    found = await leadership.load()
    assert (found.tasks, found.unresolved) == ((released,), (lost,))
    done = ended(8, 1, number=2, end=AttemptEnd.COMPLETED)
    again = replace(in_flight(released, 8), attempts=2)
    finish = Changes(
        tasks={1: again}, attempts=[done], resolved=[7], finished={1: Finish(Outcome.COMPLETED, 9.25, 2)}
    )
    await leadership.commit(finish)
    assert ageless(await leadership.load()) == Snapshot()
    assert await leadership.attempts(1) == [replace(lost, unresolved=False), done]
    assert twin.history() == {1: Past("guid-1", 2, Outcome.COMPLETED, 9.25, b"body")}


@pytest_twisted.ensureDeferred
async def test_a_task_that_is_tried_for_ever(leadership: ILeadership) -> None:
    """Of its attempts the last ones are read, oldest first."""
    tried = [ended(id, 1) for id in range(1, MOST_ATTEMPTS + 3)]
    await soon(leadership.commit(Changes(accepted=[(task(1), b"")], attempts=[ended(9000, 2), *tried])))
    assert await soon(leadership.attempts(1)) == tried[2:]


@pytest_twisted.ensureDeferred
async def test_accepted_and_finished_in_one_turn(twin: Twin, leadership: ILeadership) -> None:
    """Such a task is only in history."""
    await leadership.commit(Changes(accepted=[(task(1), b"b")], finished={1: Finish(Outcome.STOPPED, 2.0)}))
    assert ageless(await leadership.load()) == Snapshot()
    assert twin.history() == {1: Past("guid-1", 0, Outcome.STOPPED, 2.0, b"b")}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("at", "counts"), [(300.0, 1000.0), (1700.0, 1700.0)])
async def test_finished_while_the_clock_is_wrong(
    twin: Twin, leadership: ILeadership, at: float, counts: float
) -> None:
    """A clock that is behind the calendar makes nothing old; one that is ahead is written as it is."""
    await leadership.commit(Changes(manager=ManagerRow(calendar=1000.0), accepted=[(task(1), b"b")]))
    await leadership.commit(Changes(finished={1: Finish(Outcome.STOPPED, at)}))
    assert twin.history() == {1: Past("guid-1", 0, Outcome.STOPPED, counts, b"b")}
    assert await leadership.forget(999.0, 10) == 0


@pytest_twisted.ensureDeferred
async def test_an_attempt_ended_and_resolved_in_one_turn(leadership: ILeadership) -> None:
    """It is not unresolved."""
    await leadership.commit(Changes(attempts=[ended(1, 1, unresolved=True)], resolved=[1]))
    assert (await leadership.load()).unresolved == ()


@pytest_twisted.ensureDeferred
async def test_a_guid_that_finishes_may_come_again_in_the_same_turn(
    twin: Twin, leadership: ILeadership
) -> None:
    """New tasks are written before finished ones go, and yet no guid is there twice at the end."""
    again = task(2, guid="guid-1")
    await leadership.commit(Changes(accepted=[(task(1), b"1")]))
    await leadership.commit(Changes(accepted=[(again, b"2")], finished={1: Finish(Outcome.COMPLETED, 2.0)}))
    assert (await leadership.load()).tasks == (again,)
    assert list(twin.history()) == [1]


@pytest_twisted.ensureDeferred
async def test_bodies_of_tasks_that_finish_with_the_same_commit(leadership: ILeadership) -> None:
    """They are there, as are those of tasks in history; asking twice for one does no harm."""
    accepted = [(task(id), b"body %d" % id) for id in (1, 2, 3)]
    await leadership.commit(Changes(accepted=accepted))
    await leadership.commit(Changes(finished={3: Finish(Outcome.DEAD, 2.0)}))
    found = await leadership.commit(Changes(finished={1: Finish(Outcome.DEAD, 2.0)}, bodies=[1, 2, 3, 1]))
    assert found == {1: b"body 1", 2: b"body 2", 3: b"body 3"}


@pytest_twisted.ensureDeferred
async def test_taking_away_what_is_not_there(leadership: ILeadership) -> None:
    """A worker that left before it was written, a suite that was not paused, a forgotten attempt."""
    await leadership.commit(Changes(left=["nobody"], readied=["nothing"], resolved=[404]))
    assert ageless(await leadership.load()) == Snapshot()


# Refusals ---------------------------------------------------------------------------------------

REFUSED = {
    "a guid that is there already": Changes(accepted=[(task(2, guid="guid-1"), b"")]),
    "a guid twice": Changes(accepted=[(task(2), b""), (task(3, guid="guid-2"), b"")]),
    "an id that is there already": Changes(accepted=[(task(1, guid="new"), b"")]),
    "an attempt that is there already": Changes(attempts=[ended(5, 1)]),
    "a change of a task that is not there": Changes(tasks={9: task(9)}),
    "the end of a task that is not there": Changes(finished={9: Finish(Outcome.DEAD, 1.0)}),
    "a body that is not there": Changes(bodies=[1, 9]),
    "a task in flight without a worker": Changes(tasks={1: task(1, state=TaskState.WORKING)}),
    "a waiting task with a worker": Changes(tasks={1: task(1, worker="w")}),
    "a priority that is no number": Changes(tasks={}, accepted=[(task(2, priority=float("inf")), b"")]),
    "a time limit of 0": Changes(accepted=[(task(2, time_limit=0.0), b"")]),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED.keys())
@pytest_twisted.ensureDeferred
async def test_changes_that_do_not_fit_the_rows(
    twin: Twin, leadership: ILeadership, refused: Changes
) -> None:
    """Nothing of the commit is written, and the leadership is over."""
    await leadership.commit(Changes(accepted=[(task(1), b"")], attempts=[ended(5, 4)]))
    harmless = {"w": WorkerRow("w", "t", "x", WorkerStatus.IDLE, 1.0)}
    with pytest.raises(StoreConflict):
        await leadership.commit(replace(refused, workers=harmless, paused=["suite"]))
    with pytest.raises(StoreLost):
        await leadership.load()
    after = await soon(twin.store().leadership(silent))
    row = ManagerRow(task_ids=5, attempt_ids=6)
    assert ageless(await after.load()) == Snapshot(manager=row, tasks=(task(1),))
    assert twin.attempt_ids() == [5]
    await after.end()


# History ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_finished_guids(leadership: ILeadership) -> None:
    """Those in history, however often; not those that wait."""
    await leadership.commit(
        Changes(accepted=[(task(1), b""), (task(2, guid="ü|'\\"), b""), (task(3), b"")])
    )
    await leadership.commit(
        Changes(finished={1: Finish(Outcome.DEAD, 1.0), 2: Finish(Outcome.STOPPED, 1.0)})
    )
    await leadership.commit(Changes(accepted=[(task(4, guid="guid-1"), b"")]))
    await leadership.commit(Changes(finished={4: Finish(Outcome.DEAD, 1.0)}))
    assert await leadership.finished(["guid-1", "guid-3", "ü|'\\", "guid-1", "?"]) == {"guid-1", "ü|'\\"}
    assert await leadership.finished([]) == frozenset()


@pytest_twisted.ensureDeferred
async def test_history_by_guid(leadership: ILeadership) -> None:
    """Each is there once, as it ended last, and what waits is not."""
    first, other = task(1, resources=("a", "b"), suite="s", time_limit=2.5), task(2, guid="ü|'\\")
    await leadership.commit(Changes(accepted=[(first, b""), (other, b""), (task(3), b"")]))
    await leadership.commit(
        Changes(finished={1: Finish(Outcome.DEAD, 1.0, 5), 2: Finish(Outcome.STOPPED, 1.5)})
    )
    again = task(4, guid="guid-1")
    await leadership.commit(Changes(accepted=[(again, b"")]))
    assert await leadership.history(["guid-1"]) == [
        FinishedRow(replace(first, attempts=5), Outcome.DEAD, 1.0)
    ]
    await leadership.commit(Changes(finished={4: Finish(Outcome.COMPLETED, 2.25, 1)}))
    assert await leadership.history(["ü|'\\", "guid-3", "guid-1", "guid-1", "?"]) == [
        FinishedRow(replace(again, attempts=1), Outcome.COMPLETED, 2.25),
        FinishedRow(other, Outcome.STOPPED, 1.5),
    ]
    assert await leadership.history([]) == []


@pytest_twisted.ensureDeferred
async def test_what_workers_said_of_their_tasks(leadership: ILeadership) -> None:
    """It is kept with the attempt and in history, and the tasks of a suite are counted by it."""
    doubtful = Verdict(Result.ERROR, "ü|'\\", '["\\u0000"]', retry=True)
    tasks = [task(1, suite="s"), task(2, suite="s", shun=("a", "ü|'"))]
    await leadership.commit(Changes(accepted=[(each, b"") for each in tasks]))
    assert [row.shun for row in await leadership.tasks(["guid-2"])] == [("a", "ü|'")]
    await leadership.commit(Changes(tasks={1: replace(tasks[0], verdict=doubtful)}))
    assert [row.verdict for row in await leadership.tasks(["guid-1"])] == [doubtful]
    late, good = ended(1, 1), ended(2, 2, result=Result.PASSED, details='{"a": "\\u0000"}')
    await leadership.commit(
        Changes(
            tasks={2: replace(tasks[1], shun=())},
            attempts=[late, good],
            judged={1: Verdict(Result.FAILED, "why ü|'\\", "[1]"), 9: Verdict(Result.ERROR)},
            finished={
                1: Finish(Outcome.COMPLETED, 1.0, result=Result.FAILED, message="why ü|'\\"),
                2: Finish(Outcome.COMPLETED, 2.0, result=Result.PASSED),
            },
        )
    )
    judged = replace(late, result=Result.FAILED, message="why ü|'\\", details="[1]")
    assert [await leadership.attempts(id) for id in (1, 2)] == [[judged], [good]]
    found = {row.row.spec.id: row for row in await leadership.history(["guid-1", "guid-2"])}
    assert (found[1].result, found[1].message) == (Result.FAILED, "why ü|'\\")
    assert (found[2].result, found[2].message) == (Result.PASSED, None)
    assert await leadership.suite_ends(["s"]) == {"s": {Result.FAILED: 1, Result.PASSED: 1}}
    assert await leadership.forget(1.5, 9) == 1
    assert await leadership.suite_ends(["s"]) == {"s": {Result.PASSED: 1}}


@pytest_twisted.ensureDeferred
async def test_which_attempt_ended_a_task(leadership: ILeadership) -> None:
    """The one that completed it, even if another was the last one; without one, the last."""
    rows = [task(id) for id in range(1, 5)]
    first, last = ended(11, 1, worker="v", started=2.5), ended(12, 1, number=2, end=AttemptEnd.SUPERSEDED)
    given_back = ended(13, 2, worker="u")
    await leadership.commit(Changes(accepted=[(row, b"") for row in rows], attempts=[first]))
    await leadership.commit(
        Changes(
            attempts=[last, given_back],
            finished={
                1: Finish(Outcome.COMPLETED, 4.0, 2, result=Result.PASSED, attempt=11, worker="v"),
                2: Finish(Outcome.DEAD, 3.0, 1),
                3: Finish(Outcome.STOPPED, 2.0),
                4: Finish(Outcome.COMPLETED, 1.0, 1, worker="unnumbered"),
            },
        )
    )
    page = await leadership.reader.past(PastFilter(), 9)
    found = [(row.attempt, row.worker, row.dispatched, row.started) for row in map(row_of, page.tasks)]
    assert found == [
        (11, "v", 2.0, 2.5),
        (13, "u", 2.0, None),
        (None, None, None, None),
        (None, "unnumbered", None, None),
    ]
    assert [(each.outcome, each.at, each.result) for each in page.tasks][:2] == [
        (Outcome.COMPLETED, 4.0, Result.PASSED),
        (Outcome.DEAD, 3.0, None),
    ]


def row_of(finished: FinishedRow) -> TaskRow:
    """Return a finished task's row."""
    return finished.row


PAST = {
    1: (
        task(1, guid="a%-1", suite="s"),
        Finish(Outcome.COMPLETED, 10.0, 1, result=Result.FAILED, worker="v"),
    ),
    2: (
        task(2, guid="a%-2", suite="s"),
        Finish(Outcome.COMPLETED, 30.0, 1, result=Result.PASSED, worker="w"),
    ),
    3: (task(3, guid="a%\ud7ff"), Finish(Outcome.COMPLETED, 20.0, 1, result=Result.PASSED, worker="v")),
    4: (task(4, guid="a%\ue000", task_type="x"), Finish(Outcome.STOPPED, 20.0)),
    5: (task(5, guid="\U0010ffff\U0010ffff1", suite="ü|'\\"), Finish(Outcome.DEAD, 20.000001, 5)),
}
"""Tasks in history, by id: out of the order in which they ended."""


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (PastFilter(), [2, 5, 4, 3, 1]),
        (PastFilter(suite="s"), [2, 1]),
        (PastFilter(suite="ü|'\\"), [5]),
        (PastFilter(suite="?"), []),
        (PastFilter(task_type="x"), [4]),
        (PastFilter(worker="v"), [3, 1]),
        (PastFilter(worker="v", suite="s"), [1]),
        (PastFilter(outcome=Outcome.COMPLETED), [2, 3, 1]),
        (PastFilter(outcome=Outcome.DEAD), [5]),
        (PastFilter(result=Result.FAILED), [1]),
        (PastFilter(guid="a%-"), [2, 1]),
        (PastFilter(guid="a%-2"), [2]),
        (PastFilter(guid="a%\ud7ff"), [3]),
        (PastFilter(guid="\U0010ffff"), [5]),
        (PastFilter(guid="a", worker="v", result=Result.PASSED), [3]),
        (PastFilter(guid="_"), []),
        (PastFilter(since=20.0), [2, 5, 4, 3]),
        (PastFilter(until=20.0), [1]),
        (PastFilter(since=20.000001, until=30.0), [5]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_pages_of_history(leadership: ILeadership, wanted: PastFilter, ids: list[int]) -> None:
    """The newest ends first, of equal ones the higher id; the pages of any length add up to the same."""
    await leadership.commit(Changes(accepted=[(row, b"") for row, _ in PAST.values()]))
    await leadership.commit(Changes(finished={id: end for id, (_, end) in PAST.items()}))
    whole = await leadership.reader.past(wanted, 100)
    assert ([each.row.spec.id for each in whole.tasks], whole.next) == (ids, None)
    for length in (1, 2):
        found: list[int] = []
        following: Place | None = NOW
        while following is not None:
            page = await leadership.reader.past(wanted, length, following)
            assert len(page.tasks) <= length
            found += [each.row.spec.id for each in page.tasks]
            following = page.next
        assert found == ids


@pytest_twisted.ensureDeferred
async def test_tasks_that_are_not_over_are_not_in_history(leadership: ILeadership) -> None:
    """They are found when they have ended; each page shows what is committed by then."""
    await leadership.commit(Changes(accepted=[(task(1), b"")]))
    assert await leadership.reader.past(PastFilter(), 9) == PastPage((), None)
    await leadership.commit(Changes(finished={1: Finish(Outcome.STOPPED, 2.0)}))
    [found] = (await leadership.reader.past(PastFilter(), 9)).tasks
    assert found == FinishedRow(task(1), Outcome.STOPPED, 2.0)


@pytest_twisted.ensureDeferred
async def test_how_the_tasks_of_suites_ended(leadership: ILeadership) -> None:
    """Those in history are counted, by suite and outcome; what waits is not, nor what is in no suite."""
    suites = {1: "a", 2: "a", 3: "a", 4: "ü|'\\", 5: None, 6: "a"}
    await leadership.commit(
        Changes(accepted=[(task(id, suite=suite), b"") for id, suite in suites.items()])
    )
    outcomes = {1: Outcome.DEAD, 2: Outcome.COMPLETED, 3: Outcome.DEAD, 4: Outcome.STOPPED, 5: Outcome.DEAD}
    await leadership.commit(
        Changes(finished={id: Finish(outcome, 1.0) for id, outcome in outcomes.items()})
    )
    assert await leadership.suite_ends(["a", "ü|'\\", "?"]) == {
        "a": {Outcome.DEAD: 2, Outcome.COMPLETED: 1},
        "ü|'\\": {Outcome.STOPPED: 1},
        "?": {},
    }


@pytest_twisted.ensureDeferred
async def test_what_is_forgotten_of_a_suite_counts_no_more(leadership: ILeadership) -> None:
    """A suite of which some is forgotten has the rest, and one of which all is has nothing."""
    suites = {1: "a", 2: "a", 3: "a", 4: "b", 5: "b"}
    await leadership.commit(
        Changes(accepted=[(task(id, suite=suite), b"") for id, suite in suites.items()])
    )
    ends = {1: Outcome.COMPLETED, 2: Outcome.STOPPED, 3: Outcome.COMPLETED, 4: Outcome.STOPPED}
    finished = {id: Finish(outcome, float(id)) for id, outcome in ends.items()}
    await leadership.commit(Changes(finished=finished))
    assert await leadership.forget(3.0, 10) == 2
    assert await leadership.suite_ends(["a", "b"]) == {
        "a": {Outcome.COMPLETED: 1},
        "b": {Outcome.STOPPED: 1},
    }
    assert await leadership.forget(9.0, 10) == 2
    assert await leadership.suite_ends(["a", "b"]) == {"a": {}, "b": {}}
    await leadership.commit(Changes(finished={5: Finish(Outcome.DEAD, 5.0)}))
    assert await leadership.suite_ends(["b"]) == {"b": {Outcome.DEAD: 1}}


@pytest_twisted.ensureDeferred
async def test_a_dead_task_that_came_again_in_the_same_turn(twin: Twin, leadership: ILeadership) -> None:
    """It is not listed, whatever becomes of the other, and forgotten though that still waits."""
    await leadership.commit(Changes(accepted=[(task(1), b"")]))
    again = [(task(2, guid="guid-1"), b"")]
    await leadership.commit(Changes(accepted=again, finished={1: Finish(Outcome.DEAD, 1.0)}))
    assert (await leadership.dead(9), await leadership.forget(9.0, 9)) == ((0, []), 1)
    await leadership.commit(Changes(finished={2: Finish(Outcome.STOPPED, 99.0)}))
    assert (await leadership.dead(9), await leadership.forget(9.0, 9)) == ((0, []), 0)
    assert sorted(twin.history()) == [2]


@pytest_twisted.ensureDeferred
async def test_dead_tasks_are_listed_until_that_is_settled(leadership: ILeadership) -> None:
    """The last ones first; not one that came again, nor one that ended well, nor one that is settled."""
    ids = range(1, 6)
    await leadership.commit(Changes(accepted=[(task(id, suite="s"), b"") for id in ids]))
    ends = {id: Finish(Outcome.COMPLETED if id == 5 else Outcome.DEAD, float(id), 2) for id in ids}
    attempts = [ended(10, 1), ended(11, 1, worker="last", end=AttemptEnd.STALLED)]
    await leadership.commit(Changes(finished=ends, attempts=attempts))
    await leadership.commit(Changes(accepted=[(task(6, guid="guid-2"), b"")]))
    total, [last] = await leadership.dead(1)
    assert (total, last.worker, last.end) == (3, None, None)
    assert last.finished.row.spec == task(4, suite="s").spec
    assert (last.finished.outcome, last.finished.at, last.finished.row.attempts) == (Outcome.DEAD, 4.0, 2)
    assert await leadership.settle(["guid-4", "guid-5", "guid-4", "?"]) == ["guid-4"]
    assert await leadership.settle(["guid-4"]) == []
    total, found = await leadership.dead(10)
    assert [dead.finished.row.spec.id for dead in found] == [3, 1]
    assert (total, found[-1].worker, found[-1].end) == (2, "last", AttemptEnd.STALLED)


@pytest_twisted.ensureDeferred
async def test_dead_tasks_outlast_history(twin: Twin, leadership: ILeadership) -> None:
    """They are forgotten when that is settled, or when they came again, though they still wait."""
    ids = range(1, 4)
    await leadership.commit(Changes(accepted=[(task(id), b"") for id in ids]))
    await leadership.commit(Changes(finished={id: Finish(Outcome.DEAD, 1.0) for id in ids}))
    await leadership.commit(Changes(accepted=[(task(4, guid="guid-2"), b"")]))
    await leadership.settle(["guid-3"])
    assert await leadership.forget(100.0, 10) == 2
    await leadership.commit(Changes(finished={4: Finish(Outcome.COMPLETED, 1.0)}))
    assert await leadership.forget(100.0, 10) == 1
    assert sorted(twin.history()) == [1]


@pytest_twisted.ensureDeferred
async def test_messages_of_dead_tasks(leadership: ILeadership) -> None:
    """They are kept byte for byte, with what came beside them, until the tasks are settled or come anew."""
    ids = range(1, 5)
    body, beside = b"\xff\0{}", {1: b"\0\xfe", 4: b"x"}
    await leadership.commit(Changes(accepted=[(task(id), body) for id in ids], properties=beside))
    assert await leadership.message(1) == Stored(body, b"\0\xfe")
    await leadership.commit(Changes(finished={id: Finish(Outcome.DEAD, 1.0) for id in (1, 2, 3)}))
    assert [await leadership.message(id) for id in (1, 2, 9)] == [
        Stored(body, b"\0\xfe"),
        Stored(body),
        None,
    ]
    await leadership.settle(["guid-3"])
    found = await leadership.dead_messages(["guid-1", "guid-2", "guid-3", "guid-4", "?"])
    assert {dead.guid: (dead.id, dead.message) for dead in found} == {
        "guid-1": (1, Stored(body, b"\0\xfe")),
        "guid-2": (2, Stored(body)),
    }
    await leadership.commit(Changes(accepted=[(task(5, guid="guid-2"), body)]))
    assert [dead.id for dead in await leadership.dead_messages(["guid-2", "guid-1"])] == [1]


@pytest_twisted.ensureDeferred
async def test_copies_of_dead_tasks(twin: Twin, leadership: ILeadership) -> None:
    """With some of them something is to be done; a task is kept as long as the dead queue has its copy."""
    ids = range(1, 6)
    copies = dict(zip(ids, (Copy.DUE, Copy.DOUBT, Copy.THERE, None, Copy.THERE), strict=True))
    await leadership.commit(Changes(accepted=[(task(id), b"") for id in ids]))
    ends = {id: Finish(Outcome.DEAD, 1.0, 2, copy) for id, copy in copies.items()}
    await leadership.commit(Changes(finished=ends))
    due, doubtful = (
        CopyRow(1, "guid-1", 2, Copy.DUE, settled=False),
        CopyRow(2, "guid-2", 2, Copy.DOUBT, settled=False),
    )
    assert await leadership.copies(9) == [due, doubtful]
    assert await leadership.copies(1) == [due]
    await leadership.settle(["guid-3", "guid-4"])
    await leadership.commit(Changes(accepted=[(task(6, guid="guid-5"), b"")]))
    to_go = [CopyRow(id, f"guid-{id}", 2, Copy.THERE, settled=True) for id in (3, 5)]
    assert await leadership.copies(9) == [due, doubtful, *to_go]
    assert await leadership.forget(100.0, 10) == 1
    await leadership.commit(Changes(copies={1: Copy.THERE, 2: Copy.DUE, 3: None, 9: Copy.DUE}))
    assert await leadership.copies(9) == [CopyRow(2, "guid-2", 2, Copy.DUE, settled=False), to_go[1]]
    assert await leadership.forget(100.0, 10) == 1
    await leadership.settle(["guid-1", "guid-2"])
    assert [(row.id, row.settled) for row in await leadership.copies(9)] == [
        (1, True),
        (2, True),
        (5, True),
    ]
    await leadership.commit(Changes(copies={1: Copy.DUE, 2: None, 5: Copy.DOUBT}))
    assert [(row.id, row.copy) for row in await leadership.copies(9)] == [(5, Copy.DOUBT)]
    assert sorted(twin.history()) == [1, 2, 5]


@pytest_twisted.ensureDeferred
async def test_history_is_forgotten_in_steps(twin: Twin, leadership: ILeadership) -> None:
    """Oldest first, attempts with their tasks, nothing that is as young as the limit or still waits."""
    accepted = [(task(id), b"") for id in range(1, 8)]
    finished = {id: Finish(Outcome.COMPLETED, 100.0 - id) for id in range(1, 7)}
    attempts = [ended(10 + id, id) for id in range(1, 8)]
    await leadership.commit(Changes(accepted=accepted, attempts=attempts, finished=finished))
    steps = [await leadership.forget(98.0, 2) for _ in range(3)]
    assert steps == [2, 2, 0]
    assert sorted(twin.history()) == [1, 2]
    assert twin.attempt_ids() == [11, 12, 17]


# Who is active ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_only_one_leaderships_and_the_next_follows_its_end(
    twin: Twin, leadership: ILeadership
) -> None:
    """The standby says what it waits for, once, and sees what the first one wrote."""
    told = Told()
    standby = soon(twin.store().leadership(told))
    assert (await told.first).startswith("another manager is active")
    await leadership.commit(Changes(accepted=[(task(1), b"")]))
    assert not standby.called
    await leadership.end()
    await leadership.end()
    second = await standby
    assert second.epoch > leadership.epoch
    assert (await second.load()).tasks == (task(1),)
    assert [text.partition(":")[0] for text in told] == ["another manager is active"]
    with pytest.raises(StoreLost):
        await leadership.commit(Changes(paused=["late"]))
    assert (await second.load()).paused_suites == frozenset()
    await second.end()


@pytest_twisted.ensureDeferred
async def test_a_standby_follows_the_death_of_a_session(twin: Twin, leadership: ILeadership) -> None:
    """The dead one is told of it while it is idle, and can write no more."""
    lost: Deferred[StoreLost] = Deferred()
    leadership.on_lost(lost.callback)
    told = Told()
    standby = soon(twin.store().leadership(told))
    await told.first
    twin.kill(leadership)
    second = await standby
    assert isinstance(await lost.addTimeout(DEADLINE, reactor), StoreLost)
    with pytest.raises(StoreLost):
        await leadership.commit(Changes(paused=["late"]))
    late: list[StoreLost] = []
    leadership.on_lost(late.append)
    assert len(late) == 1
    assert (await second.load()).paused_suites == frozenset()
    await second.end()


@pytest_twisted.ensureDeferred
async def test_nobody_is_told_after_the_end(twin: Twin, leadership: ILeadership) -> None:
    """Giving up is no loss."""
    told: list[StoreLost] = []
    leadership.on_lost(told.append)
    await leadership.end()
    leadership.on_lost(told.append)
    twin.depose()
    assert told == []


@pytest_twisted.ensureDeferred
async def test_an_older_leadership_can_write_nothing(twin: Twin, leadership: ILeadership) -> None:
    """Even where the lock did not keep another from beginning: the row's epoch counts."""
    twin.depose()
    with pytest.raises(LeadershipOver):
        await leadership.commit(Changes(accepted=[(task(1), b"")]))
    second = await soon(twin.store().leadership(silent))
    assert ageless(await second.load()) == Snapshot()
    await second.end()


@pytest_twisted.ensureDeferred
async def test_an_older_leadership_can_forget_nothing(twin: Twin, leadership: ILeadership) -> None:
    """History is fenced as well."""
    await leadership.commit(Changes(accepted=[(task(1), b"")], finished={1: Finish(Outcome.DEAD, 1.0)}))
    twin.depose()
    with pytest.raises(LeadershipOver):
        await leadership.forget(100.0, 10)
    assert list(twin.history()) == [1]


WRITES: dict[str, Callable[[ILeadership], Coroutine[Deferred[Any], Any, object]]] = {
    "commit": lambda leadership: leadership.commit(Changes(accepted=[(task(2), b"")])),
    "settle": lambda leadership: leadership.settle(["guid-1"]),
    "forget": lambda leadership: leadership.forget(100.0, 10),
}


@pytest.mark.parametrize("write", WRITES)
@pytest_twisted.ensureDeferred
async def test_rows_restored_under_a_leadership(twin: Twin, leadership: ILeadership, write: str) -> None:
    """A dump of this very leadership is noticed at the next write, which changes nothing."""
    dump = twin.dump()
    await leadership.commit(Changes(accepted=[(task(1), b"")], finished={1: Finish(Outcome.DEAD, 1.0)}))
    twin.restore(dump)
    with pytest.raises(LeadershipOver, match="restored"):
        await WRITES[write](leadership)
    second = await soon(twin.store().leadership(silent))
    assert ageless(await second.load()) == Snapshot()
    await second.end()


@pytest_twisted.ensureDeferred
async def test_writes_follow_each_other(twin: Twin, leadership: ILeadership) -> None:
    """Writes of all kinds, several under way at once, are all this leadership's own."""
    ended_tasks = Changes(accepted=[(task(1), b"")], finished={1: Finish(Outcome.DEAD, 1.0)})
    under_way: list[Deferred[Any]] = [soon(leadership.commit(ended_tasks))]
    under_way += [soon(write(leadership)) for write in WRITES.values()]
    for each in under_way:
        await each
    assert twin.history() == {}


@pytest_twisted.ensureDeferred
async def test_numbers_begin_above_all_rows(twin: Twin, leadership: ILeadership) -> None:
    """Whatever the manager's row says: rows may come from a dump, and the row from somebody's hand."""
    dead = {7000: Finish(Outcome.DEAD, 1.0)}
    changes = Changes(
        accepted=[(task(7000), b""), (task(2), b"")], attempts=[ended(9000, 7000)], finished=dead
    )
    await leadership.commit(changes)
    await leadership.end()
    second = await soon(twin.store().leadership(silent))
    found = (await second.load()).manager
    assert (found.task_ids, found.attempt_ids) == (7001, 9001)
    await second.end()


@pytest_twisted.ensureDeferred
async def test_locks_of_other_names_do_not_matter(twin: Twin, leadership: ILeadership) -> None:
    """Two managers with two names are active at once (and should rather have two sets of tables)."""
    other = await soon(twin.store("two").leadership(silent))
    assert other.epoch > leadership.epoch
    await other.end()


@pytest_twisted.ensureDeferred
async def test_a_cancelled_standby_takes_nothing(twin: Twin, leadership: ILeadership) -> None:
    """The next one in line gets the lock."""
    told = Told()
    standby = Deferred.fromCoroutine(twin.store().leadership(told))
    await told.first
    standby.cancel()
    with pytest.raises(CancelledError):
        await standby
    await leadership.end()
    second = await soon(twin.store().leadership(silent))
    await second.end()
