"""Reservations by Etcd's v3 API: one transaction for many claims, compared by revision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count as count_up
from itertools import takewhile

from msgspec import Struct
from msgspec.structs import replace

from tefmanager.etcd import tree, v3wire
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.cache import Entry, Everything, Lock
from tefmanager.etcd.jobs import Job, Kind, Room
from tefmanager.etcd.plan import Plan
from tefmanager.etcd.v3watch import watch
from tefmanager.etcd.v3wire import Compare, KeyValue, Operation, RangeAnswer, Transaction, TransactionAnswer
from tefmanager.interfaces import Granted, Refused

MAX_OPERATIONS = 128
"""Etcd's limit for each of the three lists of a transaction."""

MAX_WINDOW_KEYS = 100
"""Keys of windows of a resource that are compared one by one."""

_SINGLE = (tree.REF_COUNT, tree.REF_LIMIT, tree.AVAILABLE)
_READS = 4
"""Operations by which all of a resource but its locks is read."""


class _Change(Struct, frozen=True):
    """Lock keys that go and that come, and the counts that change by that."""

    given: Sequence[Lock]
    taken: Sequence[Lock]
    counts: Mapping[str, int]

    def __bool__(self) -> bool:
        """Tell whether anything is to be written."""
        return bool(self.given or self.taken)


class _Room:
    """What still fits into a transaction.

    Args:
        compares: returns how many comparisons it takes to take references of a resource.
    """

    def __init__(self, compares: Callable[[str], int]) -> None:
        self._compares_of = compares
        self._taking: set[str] = set()
        self._names: set[str] = set()
        self._compares = 0
        self._writes = 0

    def admits(self, job: Job) -> bool:
        """See `Room`."""
        taking = job.kind is Kind.TAKE
        names = self._names.union(job.names)
        writes = self._writes + len(job.names) + len(names) - len(self._names)
        new = set(job.names) - (self._taking if taking else self._names)
        compares = self._compares + (
            sum(map(self._compares_of, new)) if taking else len(job.names) + len(new)
        )
        if max(compares, writes) > MAX_OPERATIONS:
            return False
        self._names, self._compares, self._writes = names, compares, writes
        if taking:
            self._taking.update(job.names)
        return True


class EtcdV3Reservations(EtcdReservations):
    """Reservations through the v3 JSON gateway.

    A transaction compares the revision of everything that a decision was made by, so it is done on exactly
    that or not at all; where not, all of it is read anew. References are given back and taken in one
    transaction.
    """

    # --- reading and watching ---

    async def _read(self) -> Everything:
        answer = await v3wire.ask(self._http, "kv/range", v3wire.prefix(self._key()), RangeAnswer)
        fields: dict[str, dict[str, Entry]] = {}
        locks: list[Lock] = []
        for pair in answer.kvs:
            at = self._place(pair)
            if at is not None and at.is_lock:
                locks.extend(self._own_lock(at, pair))
            elif at is not None:
                fields.setdefault(at.name, {})[at.field] = _entry(pair)
        return Everything(fields, locks, answer.header.revision)

    async def _follow(self) -> None:
        await self._read_and_tell()
        await watch(self._http, self._key(), self._read_revision + 1, self._changed)

    def _changed(self, events: Sequence[v3wire.Event]) -> None:
        self._news += 1
        names = set()
        for event in events:
            if tree.is_lock_key(event.kv.key):
                continue  # most are, and most of them are our own: it is not worth while to parse them
            at = self._place(event.kv)
            if at is None or at.is_lock:
                continue
            entry = Entry(None, event.kv.mod_revision) if event.type == v3wire.DELETE else _entry(event.kv)
            if self._cache.put(at.name, at.field, entry):
                names.add(at.name)
        self._tell(names)

    async def _settle(self) -> None:
        """Nothing is ever half done: it is all in one transaction."""

    async def _look_up(self, attempt: int, name: str) -> None:
        begin = self._key(name, f"{tree.LOCKS}/{tree.client_id(self._prefix, attempt)}~")
        answer = await v3wire.ask(self._http, "kv/range", v3wire.prefix(begin), RangeAnswer)
        for pair in answer.kvs:
            at = self._place(pair)
            for lock in [] if at is None else self._own_lock(at, pair):
                self._locks.add(lock)

    def _place(self, pair: KeyValue) -> tree.Place | None:
        path = v3wire.path_below(self._base, pair.key)
        return None if path is None else tree.place(path)

    def _own_lock(self, at: tree.Place, pair: KeyValue) -> list[Lock]:
        attempt = tree.lock_attempt(self._prefix, at.lock_id)
        if attempt is None:
            return []
        return [Lock(attempt, at.name, at.field, v3wire.text(pair.value), pair.mod_revision)]

    def _key(self, *parts: str) -> bytes:
        """Return the key below the base; without parts, what all keys there begin with."""
        return f"{self._base}/{'/'.join(parts)}".encode()

    # --- both ways ---

    def _new_room(self) -> Room:
        return _Room(self._compares)

    def _compares(self, name: str) -> int:
        windows = min(len(self._cache.windows(name)), MAX_WINDOW_KEYS)
        return max(_READS, len(_SINGLE) + 1 + windows)

    async def _commit(self, transaction: Transaction) -> TransactionAnswer:
        await self._reigning()
        return await v3wire.ask(self._http, "kv/txn", transaction, TransactionAnswer)

    async def _carry_out(self, takes: Sequence[Job], gives: Sequence[Job]) -> None:
        parts = [] if gives or len(takes) != 1 else list(self._parts(takes[0]))
        if len(parts) > 1:
            await self._take_in_parts(takes[0], parts)
        else:
            await self._together(takes, gives)

    def _parts(self, job: Job) -> Iterable[Job]:
        """Cut a job into ones that fit into a transaction each."""
        names: list[str] = []
        room = self._new_room()
        for name in job.names:
            if not room.admits(one := Job(job.kind, job.attempt, (name,))) and names:
                yield Job(job.kind, job.attempt, tuple(names))
                names, room = [], self._new_room()
                room.admits(one)
            names.append(name)
        yield Job(job.kind, job.attempt, tuple(names))

    async def _take_in_parts(self, job: Job, parts: Sequence[Job]) -> None:
        taken: list[str] = []
        for part in parts:
            await self._together([part], [])
            outcome = part.outcome
            if isinstance(outcome, Refused):
                await self._give_names(job.attempt, taken)
                job.finish(outcome)
                return
            taken.extend(outcome.reserved if isinstance(outcome, Granted) else ())
        self._grant(job, taken)

    async def _give_names(self, attempt: int, names: Sequence[str]) -> None:
        for name in names:
            await self._together([], [Job(Kind.GIVE, attempt, (name,))])

    async def _together(self, takes: Sequence[Job], gives: Sequence[Job]) -> None:
        """Give and take in one transaction, again and again until it is done on what is so."""
        for conflicts in count_up(1):
            given = [
                lock for job in gives for name in job.names for lock in self._locks.of(job.attempt, name)
            ]
            lowered = self._lowered(given)
            fitting = self._first_that_fit([job for job in takes if not job.done.called], gives)
            planned = self._plan(fitting, lowered)
            counts = self._changed_counts({**lowered, **planned.counts})
            change = _Change(given, list(self._new_locks(planned)), counts)
            if not change or await self._write(change):
                self._finish(planned, gives)
                if all(job.done.called for job in takes):
                    return
                gives = []
            else:
                await self._pause_after_conflict(conflicts)

    def _finish(self, planned: Plan[Job], gives: Sequence[Job]) -> None:
        for job in gives:
            job.finish(None)
        for job, added in planned.granted:
            self._grant(job, added)

    def _first_that_fit(self, takes: Sequence[Job], gives: Sequence[Job]) -> list[Job]:
        # Windows may have been added since the batch was put together.
        room = self._new_room()
        for job in gives:
            room.admits(job)
        return list(takewhile(lambda job: room.admits(job) or (not gives and job is takes[0]), takes))

    def _changed_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the counts to write: one reference given back and another taken leave a count as it is."""
        return {
            name: count
            for name, count in counts.items()
            if str(count) != self._cache.entry(name, tree.REF_COUNT).value
        }

    def _new_locks(self, planned: Plan[Job]) -> Iterable[Lock]:
        for job, added in planned.granted:
            for name, after in added.items():
                yield Lock(job.attempt, name, self._lock_field(job, after), str(after), 0)

    async def _write(self, change: _Change) -> bool:
        """Write counts and lock keys, or take in the values that are no longer what we knew."""
        taking = sorted({lock.name for lock in change.taken})
        giving = sorted({lock.name for lock in change.given} - set(taking))
        compares = [v3wire.exists(self._key(lock.name, lock.field)) for lock in change.given]
        compares += [self._count_as_known(name) for name in giving]
        compares += [compare for name in taking for compare in self._as_known(name)]
        writes = [v3wire.delete(self._key(lock.name, lock.field)) for lock in change.given]
        writes += [v3wire.put(self._key(lock.name, lock.field), lock.value) for lock in change.taken]
        writes += [
            v3wire.put(self._key(name, tree.REF_COUNT), str(count)) for name, count in change.counts.items()
        ]
        answer = await self._commit(Transaction(compares, writes, []))
        if answer.succeeded:
            self._written(change, answer.header.revision)
        else:
            await self._read_again(taking, giving, change.given)
        return answer.succeeded

    def _written(self, change: _Change, revision: int) -> None:
        for lock in change.given:
            self._locks.drop(lock, revision)
        for lock in change.taken:
            self._locks.add(replace(lock, revision=revision))
        entries = {name: Entry(str(count), revision) for name, count in change.counts.items()}
        self._tell([name for name in entries if self._cache.put(name, tree.REF_COUNT, entries[name])])

    async def _read_again(
        self, taking: Sequence[str], giving: Sequence[str], given: Sequence[Lock]
    ) -> None:
        """Read what a transaction was decided by: others have changed some of it."""
        reads = [v3wire.get(self._key(lock.name, lock.field)) for lock in given]
        reads += [v3wire.get(self._key(name, tree.REF_COUNT)) for name in giving]
        reads += [read for name in taking for read in self._reads(name)]
        answer = await self._commit(Transaction([], reads, []))
        self._take_in(taking, answer)
        self._take_in_counts(given, giving, answer)

    def _count_as_known(self, name: str) -> Compare:
        revision = self._cache.entry(name, tree.REF_COUNT).revision
        return v3wire.unchanged(self._key(name, tree.REF_COUNT), revision)

    def _as_known(self, name: str) -> Iterable[Compare]:
        for field in _SINGLE:
            yield v3wire.unchanged(self._key(name, field), self._cache.entry(name, field).revision)
        windows = self._cache.windows(name)
        newest = max((entry.revision for _, entry in windows), default=0)
        # A range tells of new and changed keys, but not of deleted ones.
        yield v3wire.none_newer(self._key(name, tree.WINDOWS, ""), newest)
        for field, entry in windows[:MAX_WINDOW_KEYS]:
            yield v3wire.unchanged(self._key(name, field), entry.revision)

    def _reads(self, name: str) -> Iterable[Operation]:
        yield v3wire.get(self._key(name, tree.AVAILABLE))
        yield v3wire.get(self._key(name, tree.REF_COUNT))
        # Whatever lies between the two keys and is not this resource's is left out when the answer is read.
        yield v3wire.get_range(self._key(name, tree.REF_LIMIT), self._key(name, tree.SOURCE) + b"\0")
        yield v3wire.get_prefix(self._key(name, tree.WINDOWS, ""))

    def _take_in(self, names: Sequence[str], answer: TransactionAnswer) -> None:
        fields: dict[str, dict[str, Entry]] = {name: {} for name in names}
        for pair in _pairs(answer):
            at = self._place(pair)
            if at is not None and at.name in fields:
                fields[at.name][at.field] = _entry(pair)
        revision = answer.header.revision
        self._tell([name for name in names if self._cache.read(name, fields[name], revision)])

    def _take_in_counts(
        self, locks: Sequence[Lock], names: Sequence[str], answer: TransactionAnswer
    ) -> None:
        there = {pair.key: pair for pair in _pairs(answer)}
        revision = answer.header.revision
        for lock in locks:
            if self._key(lock.name, lock.field) not in there:
                self._log_removed(lock)
                self._locks.drop(lock, revision)
        changed = []
        for name in names:
            pair = there.get(self._key(name, tree.REF_COUNT))
            entry = Entry(None, revision) if pair is None else _entry(pair)
            if self._cache.put(name, tree.REF_COUNT, entry):
                changed.append(name)
        self._tell(changed)


def _entry(pair: KeyValue) -> Entry:
    return Entry(v3wire.text(pair.value), pair.mod_revision)


def _pairs(answer: TransactionAnswer) -> Iterable[KeyValue]:
    for one in answer.responses:
        if one.response_range is not None:
            yield from one.response_range.kvs
