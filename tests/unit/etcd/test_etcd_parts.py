"""The pure parts of the Etcd adapter: cache, lock keys, planning, settling, lines, the queue of work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from tefmanager.core.model.resources import UNLIMITED, Resource
from tefmanager.etcd import v2wire, v3wire
from tefmanager.etcd.cache import Cache, Entry, Everything, Lock, Locks
from tefmanager.etcd.jobs import Job, Jobs, Kind, all_done
from tefmanager.etcd.jsonlines import Lines
from tefmanager.etcd.plan import plan
from tefmanager.etcd.settle import LockKey, State, uncounted
from tefmanager.etcd.tree import REF_COUNT, REF_LIMIT
from tefmanager.interfaces.etcd import ReservationsLost

unhurried = settings(deadline=None)
NOON = datetime(2024, 1, 1, 12)


# --- the cache ---


def test_cache_takes_what_is_newer() -> None:
    """A change that is older than what is known changes nothing."""
    cache = Cache()
    assert cache.read_all({"r": {"ref_limit": Entry("3", 4)}}, 10)
    assert not cache.put("r", "ref_limit", Entry("1", 9))
    assert cache.put("r", "ref_limit", Entry("2", 11))
    assert not cache.put("r", "ref_limit", Entry("4", 11))
    assert cache.get("r") == Resource("r", limit=2)


def test_an_old_read_keeps_what_came_since() -> None:
    """Values written and keys deleted after the read was made stay written and deleted."""
    cache = Cache()
    cache.read_all({"r": {"ref_limit": Entry("3", 1), "available": Entry("0", 2)}}, 5)
    cache.put("r", "ref_count", Entry("1", 8))
    cache.put("r", "available", Entry(None, 9))
    cache.read_all({"r": {"ref_limit": Entry("3", 1), "available": Entry("0", 2)}}, 7)
    assert cache.get("r") == Resource("r", held=1, limit=3)
    assert not cache.read("r", {"ref_limit": Entry("9", 6)}, 6)
    assert cache.get("r") == Resource("r", held=1, limit=3)


def test_a_read_forgets_what_is_gone() -> None:
    """What a read of everything does not bring is not there any more."""
    cache = Cache()
    cache.read_all({"r": {"ref_limit": Entry("3", 1)}, "s": {"ref_limit": Entry("3", 2)}}, 5)
    assert cache.read_all({"s": {"ref_limit": Entry("3", 2)}}, 6) == {"r"}
    assert cache.get("r") is None
    assert cache.all() == {"s": Resource("s", limit=3)}
    assert cache.entry("r", "ref_limit") == Entry(None, 0)


def test_a_read_of_another_past() -> None:
    """A key that is older than it was known to be is of another store, unless the whole read is older."""
    cache = Cache()
    cache.read_all({"r": {REF_COUNT: Entry("1", 5), REF_LIMIT: Entry("9", 2)}}, 5)
    cache.put("r", REF_COUNT, Entry("2", 9))

    def told(revision: int, **fields: int) -> str | None:
        found = {"r": {field: Entry("x", at) for field, at in fields.items()}}
        return cache.contradiction(Everything(found, [], revision))

    assert told(9, ref_count=9, ref_limit=2) is None
    assert told(12, ref_count=11, ref_limit=2, source=1) is None
    assert told(8, ref_count=5, ref_limit=2) is None
    assert told(12, ref_limit=2) is None
    assert (
        told(12, ref_count=5, ref_limit=2) == "it is a different one: r/ref_count has revision 5, before 9"
    )
    cache.put("r", REF_COUNT, Entry(None, 10))
    assert told(12, ref_count=11) is None
    assert told(12, ref_count=9) is not None


def test_a_read_of_one_resource() -> None:
    """It brings that one up to date, and later news of before do not set it back."""
    cache = Cache()
    cache.read_all({"r": {"ref_limit": Entry("3", 1), "source": Entry("x", 1)}}, 5)
    assert cache.read("r", {"ref_count": Entry("2", 7)}, 8)
    assert not cache.put("r", "ref_limit", Entry("4", 6))
    assert cache.get("r") == Resource("r", held=2)


def test_removing_a_folder() -> None:
    """All keys below a path go, and only those."""
    cache = Cache()
    names = ("a", "a/b", "ab")
    cache.read_all({name: {"ref_limit": Entry("1", 1)} for name in names}, 5)
    assert cache.remove_below("a/b", 6) == ["a/b"]
    assert set(cache.all()) == {"a", "ab"}
    assert set(cache.remove_below("", 7)) == {"a", "ab"}
    assert cache.all() == {}


operations = st.lists(
    st.tuples(
        st.sampled_from("rs"), st.sampled_from(["ref_count", "ref_limit"]), st.none() | st.integers(0, 3)
    ),
    max_size=12,
)


@unhurried
@given(operations, st.data())
def test_cache_ends_up_right(history: list[tuple[str, str, int | None]], data: st.DataObject) -> None:
    """Changes in their order, mixed with late and early reads of any revision: the end is the truth."""
    states: list[dict[str, dict[str, Entry]]] = [{"r": {}, "s": {}}]
    for revision, (name, field, value) in enumerate(history, 1):
        state = {key: dict(fields) for key, fields in states[-1].items()}
        state[name].pop(field, None)
        if value is not None:
            state[name][field] = Entry(str(value), revision)
        states.append(state)
    cache = Cache()
    for revision, (name, field, value) in enumerate(history, 1):
        if data.draw(st.booleans()):
            read = data.draw(st.integers(0, len(history)))
            cache.read("r", states[read]["r"], read)
        cache.put(name, field, Entry(None if value is None else str(value), revision))
    truth = Cache()
    truth.read_all(states[-1], len(history))
    assert cache.all() == truth.all()


# --- own lock keys ---


def lock(attempt: int, name: str, revision: int) -> Lock:
    """Return a lock key."""
    return Lock(attempt, name, f"locks/p:{attempt}~1~1", "1", revision)


def test_locks_of_an_old_read() -> None:
    """A read does not lose what was granted since, nor bring back what was given back since."""
    locks = Locks()
    locks.read_all([lock(1, "r", 2)], 5)
    locks.add(lock(2, "r", 8))
    locks.drop(lock(1, "r", 2), 9)
    locks.read_all([lock(1, "r", 2)], 7)
    assert locks.held() == {2: frozenset("r")}
    locks.read_all([], 10)
    assert locks.held() == {}


def test_locks_by_attempt() -> None:
    """They are found by attempt and name."""
    locks = Locks()
    locks.read_all([lock(1, "r", 2), lock(1, "s", 2), lock(2, "s", 3)], 5)
    assert locks.held() == {1: frozenset("rs"), 2: frozenset("s")}
    assert locks.of(1, "s") == [lock(1, "s", 2)]
    assert locks.of(3, "s") == locks.of(1, "t") == []


# --- planning ---


def job(attempt: int, *names: str, kind: Kind = Kind.TAKE) -> Job:
    """Return a job."""
    return Job(kind, attempt, names)


def test_plan_goes_in_order() -> None:
    """Reservations count up one by one; who finds no room takes nothing; unknown names limit nothing."""
    resources = {
        "r": Resource("r", held=1, limit=3),
        "s": Resource("s", limit=1),
        "u": Resource("u", 5, UNLIMITED),
    }
    jobs = [job(1, "r", "s"), job(2, "r", "s", "u"), job(3, "r", "x"), job(4, "u"), job(5, "r")]
    planned = plan(jobs, resources.get, NOON)
    assert [(one.attempt, added) for one, added in planned.granted] == [
        (1, {"r": 2, "s": 1}),
        (3, {"r": 3}),
        (4, {"u": 6}),
    ]
    assert [(one.attempt, short) for one, short in planned.refused] == [(2, "s"), (5, "r")]
    assert planned.counts == {"r": 3, "s": 1, "u": 6}


@unhurried
@given(
    st.lists(st.lists(st.sampled_from("rstx"), unique=True, max_size=3), max_size=8),
    st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 4)), min_size=3, max_size=3),
)
def test_plan_never_passes_a_limit(wanted: list[list[str]], values: list[tuple[int, int]]) -> None:
    """What is granted fits, and the first that is refused would not."""
    pairs = zip("rst", values, strict=True)
    resources = {name: Resource(name, held, limit) for name, (held, limit) in pairs}
    planned = plan([job(number, *names) for number, names in enumerate(wanted)], resources.get, NOON)
    for name, resource in resources.items():
        taken = sum(name in one.names for one, _ in planned.granted)
        assert taken <= resource.free_at(NOON)
        assert planned.counts.get(name, resource.held) == resource.held + taken
    assert len(planned.granted) + len(planned.refused) == len(wanted)


# --- settling ---


def key(field: str, value: str, created: int, modified: int) -> LockKey:
    """Return a lock key as v2 has it."""
    return LockKey(field, value, created, modified)


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State(0, 0, [key("a", "0", 5, 5)]), ["a"]),
        (State(1, 3, [key("a", "0", 5, 5)]), ["a"]),
        (State(1, 6, [key("a", "0", 5, 5)]), []),
        (State(0, 6, [key("a", "0", 5, 5)]), ["a"]),
        (State(1, 3, [key("a", "0", 2, 5)]), []),
        (State(0, 6, [key("a", "0", 2, 5)]), ["a"]),
        (State(2, 6, [key("a", "2", 2, 4), key("b", "0", 5, 5)]), []),
        (State(1, 6, [key("a", "1", 2, 4), key("b", "0", 5, 5)]), ["b"]),
        (State(5, 6, [key("a", "0", 5, 5)]), []),
    ],
    ids=[
        "there is no count",
        "the count is older than the intent",
        "counted, then died",
        "the count has no room",
        "marked, not yet lowered",
        "lowered, not yet deleted",
        "another holds the first",
        "another holds the only one",
        "others hold without keys",
    ],
)
def test_settling(state: State, fields: list[str]) -> None:
    """Which keys the count does not hold."""
    assert [one.field for one in uncounted(state)] == fields


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=6))
def test_settling_one_after_the_other(keys: list[tuple[bool, bool]]) -> None:
    """Whoever settles first, all that died in the middle end with counts and keys in agreement."""
    held = [key(str(index), "0", index + 1, index + 1) for index, _ in enumerate(keys)]
    count, present = sum(counted for counted, _ in keys), dict(enumerate(held))
    for mine in (True, False):
        missing = uncounted(State(count, 100, list(present.values())))
        for index, (_, first) in enumerate(keys):
            if first is mine:
                count -= present[index] not in missing
                del present[index]
    assert (count, present) == (0, {})


# --- the wire ---


@unhurried
@given(st.lists(st.text("ab", min_size=1), max_size=5), st.lists(st.integers(1, 4), max_size=30))
def test_lines(lines: list[str], cuts: list[int]) -> None:
    """However a body is cut, its lines come out whole."""
    body = "".join(line + "\n" for line in lines).encode()
    found: list[bytes] = []
    cutter = Lines(found.append)
    for cut in [*cuts, len(body)]:
        piece, body = body[:cut], body[cut:]
        cutter.received(piece)
    cutter.ended()
    assert [line.decode() for line in found] == lines


def test_v2_requests() -> None:
    """Keys and options are encoded for the path, the query and the form."""
    request = v2wire.request("PUT", "/a b/%?#", "1 &ä", prevExist=True, prevValue=None, recursive=False)
    assert request.path == "/v2/keys/a%20b/%25%3F%23?prevExist=true&recursive=false"
    assert request.body == b"value=1+%26%C3%A4"


@pytest.mark.parametrize(
    "body", [b"404 page not found\n", b"", b"[]", b'{"errorCode": 300, "message": "x"}']
)
def test_v2_errors(body: bytes) -> None:
    """What is not an answer, or an error that nobody expects, says where it came from."""
    with pytest.raises(ReservationsLost, match="h:1: HTTP 404"):
        v2wire.read(body, 404, "h:1")


def test_v3_defaults() -> None:
    """False and zero fields are left out by the gateway; numbers come as text."""
    answer = v3wire.decode(
        b'{"header":{"revision":"12"},"responses":[{"response_range":{"kvs":[{"key":"YQ=="}]}}]}',
        v3wire.TransactionAnswer,
        "h:1",
    )
    assert (answer.header.revision, answer.succeeded) == (12, False)
    assert answer.responses[0].response_range is not None
    assert answer.responses[0].response_range.kvs == [v3wire.KeyValue(b"a", b"", 0)]
    with pytest.raises(ReservationsLost, match="h:1"):
        v3wire.decode(b"<html>", v3wire.TransactionAnswer, "h:1")


def test_v3_range_ends() -> None:
    """All keys that begin so, and none else."""
    assert v3wire.end_of_prefix(b"/a/") == b"/a0"
    assert v3wire.path_below("/a", b"/a/b/c") == "b/c"
    assert v3wire.path_below("/a", b"/a/\xff") is None


# --- the queue of work ---


class Work:
    """Does batches when it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[Sequence[Job], Deferred[None]]] = []

    async def __call__(self, jobs: Sequence[Job]) -> None:
        done: Deferred[None] = Deferred()
        self.batches.append((jobs, done))
        await done
        for one in jobs:
            one.finish(None)

    def attempts(self) -> list[list[int]]:
        """Return the attempts of each batch so far."""
        return [[one.attempt for one in jobs] for jobs, _ in self.batches]


class OfKind:
    """Room for so many jobs, of the first one's kind unless they may be mixed."""

    def __init__(self, most: int = 99, *, mixed: bool = True) -> None:
        self.left, self.mixed = most, mixed
        self.kind: Kind | None = None

    def admits(self, job: Job) -> bool:
        self.kind = self.kind or job.kind
        if not self.left or not (self.mixed or job.kind is self.kind):
            return False
        self.left -= 1
        return True


def at_once(call: Callable[[], None]) -> None:
    """Call it now."""
    call()


@pytest.mark.parametrize("mixed", [True, False])
def test_jobs_on_one_resource_wait_and_then_go_together(mixed: bool) -> None:
    """Nothing is done twice at a time on a resource; what waits goes in one batch, in order."""
    work = Work()
    jobs = Jobs(work, lambda: OfKind(mixed=mixed), 4, at_once)
    jobs.add([job(1, "r")])
    jobs.add([job(2, "r"), job(3, "s", "r"), job(4, "t"), job(5, "s"), job(6, "r", kind=Kind.GIVE)])
    assert work.attempts() == [[1], [4]]
    work.batches[0][1].callback(None)
    assert work.attempts()[2:] == ([[2, 3, 5, 6]] if mixed else [[2, 3, 5]])
    work.batches[2][1].callback(None)
    assert work.attempts()[3:] == ([] if mixed else [[6]])


def test_jobs_that_come_together_go_together() -> None:
    """What is given back and what is taken in the same moment is one batch."""
    work, soon = Work(), list[Callable[[], None]]()
    jobs = Jobs(work, OfKind, 4, soon.append)
    jobs.add([job(1, "r")])
    jobs.add([job(2, "s", kind=Kind.GIVE)])
    assert work.attempts() == []
    (pump,) = soon
    pump()
    assert work.attempts() == [[1, 2]]


def test_jobs_for_one_reference_go_one_after_the_other() -> None:
    """The same reference is never handled twice in one batch."""
    work = Work()
    jobs = Jobs(work, OfKind, 4, at_once)
    jobs.add([job(1, "r", kind=Kind.GIVE), job(1, "r", kind=Kind.GIVE)])
    assert work.attempts() == [[1]]


def test_jobs_have_limits() -> None:
    """A batch takes what fits, and only so many batches are under way."""
    work = Work()
    jobs = Jobs(work, lambda: OfKind(2), 2, at_once)
    jobs.add([job(number, str(number)) for number in range(5)])
    assert work.attempts() == [[0, 1], [2, 3]]
    work.batches[0][1].callback(None)
    assert work.attempts() == [[0, 1], [2, 3], [4]]


def test_a_batch_that_fails() -> None:
    """All its jobs fail, and the queue goes on."""
    work = Work()
    jobs = Jobs(work, OfKind, 1, at_once)
    first, second, third = job(1, "r"), job(2, "s"), job(3, "r")
    jobs.add([first, second])
    jobs.add([third])
    work.batches[0][1].errback(ReservationsLost("x"))
    assert [type(one.error) for one in (first, second)] == [ReservationsLost] * 2
    assert all(one.done.called for one in (first, second))
    assert work.attempts() == [[1, 2], [3]]
    jobs.cancel()
    assert isinstance(third.error, ReservationsLost)


def test_who_waits_for_jobs_may_give_up() -> None:
    """Cancelling the wait is no error of the jobs, which go on."""
    jobs = [Job(Kind.TAKE, number, ("r",)) for number in (1, 2)]
    waiting = all_done(jobs)
    given_up: list[object] = []
    waiting.addErrback(lambda failure: given_up.append(failure.type))
    waiting.cancel()
    assert given_up == [CancelledError]
    for job in jobs:
        job.finish(None)
    again: list[object] = []
    all_done(jobs).addCallback(again.append)
    assert again == [None]
