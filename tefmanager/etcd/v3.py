"""Reservations through Etcd's v3 API: one transaction for many reservations, compared by revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count as count_up
from itertools import takewhile
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tefmanager.core.model.reservations import Outcome, Refused
from tefmanager.etcd import tree, v3wire
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.cache import Entry, Everything, Lock
from tefmanager.etcd.capacity import FIRST, Cost, RequestLimits, TransactionCapacity, size_of
from tefmanager.etcd.giving import log_removed, lowered
from tefmanager.etcd.jobs import Capacity, Job, Kind
from tefmanager.etcd.ownership import OwnerKeys
from tefmanager.etcd.plan import Plan
from tefmanager.etcd.refusals import Limit, RequestRefused
from tefmanager.etcd.v3owner import V3OwnerKeys
from tefmanager.etcd.v3watch import watch
from tefmanager.etcd.v3wire import Compare, KeyValue, Operation, RangeAnswer, Transaction, TransactionAnswer

MOST_BLAMED = 50
"""How many resources of a refused reservation are checked one by one."""

_SINGLE = (tree.REF_COUNT, tree.REF_LIMIT, tree.AVAILABLE)
_LONGEST = 10**18 - 1
_READS = 4
"""How many operations read all of a resource without its lock keys."""


AnswerT = TypeVar("AnswerT", RangeAnswer, TransactionAnswer)


class _Change(Struct, frozen=True):
    """Lock keys to delete and to write, and the counts that change with them."""

    given: Sequence[Lock]
    taken: Sequence[Lock]
    counts: Mapping[str, int]

    def __bool__(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self.given or self.taken)


class EtcdV3Reservations(EtcdReservations):
    """Reservations through the v3 JSON gateway.

    A transaction compares the revisions of everything that its decision is based on, so it is carried out
    on exactly that state or not at all. If not, the state is read again. References are given back and
    taken in one transaction.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = RequestLimits()
        self._longest_lock = tree.lock_field(self._prefix, _LONGEST, _LONGEST, _LONGEST)

    # --- reading and watching ---

    def _owner_keys(self, folder: str) -> OwnerKeys:
        return V3OwnerKeys(self._http, folder)

    async def _read(self) -> Everything:
        answer = await self._ask("kv/range", v3wire.prefix(self._key()), RangeAnswer)
        fields: dict[str, dict[str, Entry]] = {}
        locks: list[Lock] = []
        for pair in answer.kvs:
            at = self._resource_key(pair)
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
                continue  # most keys are lock keys, most of them our own: not worth parsing
            at = self._resource_key(event.kv)
            if at is None or at.is_lock:
                continue
            entry = Entry(None, event.kv.mod_revision) if event.type == v3wire.DELETE else _entry(event.kv)
            if self._cache.put(at.name, at.field, entry):
                names.add(at.name)
        self._tell(names)

    async def _settle(self) -> None:
        """Forget learned limits: the server may be another one. Transactions leave nothing half done."""
        self._limits.forget()

    async def _look_up(self, attempt: int, name: str) -> None:
        begin = self._key(name, f"{tree.LOCKS}/{tree.client_id(self._prefix, attempt)}~")
        answer = await self._ask("kv/range", v3wire.prefix(begin), RangeAnswer)
        for pair in answer.kvs:
            at = self._resource_key(pair)
            for lock in [] if at is None else self._own_lock(at, pair):
                self._locks.add(lock)

    def _resource_key(self, pair: KeyValue) -> tree.ResourceKey | None:
        path = v3wire.path_below(self._base, pair.key)
        return None if path is None else tree.resource_key(path)

    def _own_lock(self, at: tree.ResourceKey, pair: KeyValue) -> list[Lock]:
        attempt = tree.lock_attempt(self._prefix, at.lock_id)
        if attempt is None:
            return []
        return [Lock(attempt, at.name, at.field, v3wire.text(pair.value), pair.mod_revision)]

    def _key(self, *parts: str) -> bytes:
        """Return a key below the base; without parts, the prefix of all keys there."""
        return f"{self._base}/{'/'.join(parts)}".encode()

    # --- both ways ---

    def _new_capacity(self) -> Capacity:
        return TransactionCapacity(self._limits, self._cost, self._lock_size)

    def _cost(self, name: str) -> Cost:
        keys = [self._key(name, field) for field in (*_SINGLE, *self._windows_now(name))]
        range_of_windows = 2 * size_of(self._key(name, tree.WINDOWS, ""))
        size = range_of_windows + size_of(self._key(name, tree.REF_COUNT)) + sum(map(size_of, keys))
        return Cost(max(_READS, len(keys) + 1), size)

    def _lock_size(self, name: str) -> int:
        return size_of(self._key(name, self._longest_lock))

    def _smaller(self, refused: RequestRefused) -> bool:
        return self._limits.learn(refused)

    async def _ask(self, path: str, message: Struct, kind: type[AnswerT]) -> AnswerT:
        before = self._timeline.newest
        answer = await v3wire.ask(self._http, path, message, kind)
        self._timeline.answered(before, answer.header.revision, answer.header.cluster_id)
        return answer

    async def _commit(self, transaction: Transaction) -> TransactionAnswer:
        await self._leading()
        try:
            return await self._ask("kv/txn", transaction, TransactionAnswer)
        except RequestRefused as refused:
            refused.measure = _measure(transaction, refused.limit)
            raise

    async def _carry_out(self, jobs: Sequence[Job]) -> None:
        conflicts = 0
        while left := [job for job in jobs if not job.done.called]:
            together = self._first_that_fit(left)
            if not together:
                await self._in_parts(left[0])
            elif not await self._together(together):
                conflicts += 1
                await self._pause_after_conflict(conflicts)

    def _first_that_fit(self, jobs: Sequence[Job]) -> list[Job]:
        # Windows may have been added, and limits learned, since the batch was formed.
        return list(takewhile(self._new_capacity().admits, jobs))

    async def _in_parts(self, job: Job) -> None:
        """Carry out a job that does not fit into one transaction.

        If this process dies in between, a full read shows what was done.
        """
        taken: list[str] = []
        outcome: Outcome | None = None
        try:
            for part in list(self._parts(job)):
                outcome = await self._alone(part)
                if isinstance(outcome, Refused):
                    break
                taken.extend(part.names)
        except RequestRefused:
            await self._give_names(job, taken)
            raise
        if isinstance(outcome, Refused):
            await self._give_names(job, taken)
            job.finish(outcome)
        elif job.kind is Kind.GIVE:
            job.finish(None)
        else:
            self._grant(job, [name for name in taken if self._holds(job.attempt, name)])

    async def _alone(self, job: Job) -> Outcome | None:
        for conflicts in count_up(1):
            if await self._together([job]):
                break
            await self._pause_after_conflict(conflicts)
        return job.outcome

    def _parts(self, job: Job) -> Iterable[Job]:
        """Cut a job into jobs that fit into one transaction each."""
        names: list[str] = []
        capacity = self._new_capacity()
        for name in job.names:
            if not capacity.admits(one := Job(job.kind, job.attempt, (name,))) and names:
                yield Job(job.kind, job.attempt, tuple(names))
                names, capacity = [], self._new_capacity()
                capacity.admits(one)
            names.append(name)
        yield Job(job.kind, job.attempt, tuple(names))

    async def _give_names(self, job: Job, names: Sequence[str]) -> None:
        if job.kind is Kind.TAKE:
            for name in names:
                await self._alone(Job(Kind.GIVE, job.attempt, (name,)))

    async def _together(self, jobs: Sequence[Job]) -> bool:
        """Give back and take in one transaction; return False if the known state was outdated."""
        takes, gives = ([job for job in jobs if job.kind is kind] for kind in Kind)
        given = [lock for job in gives for name in job.names for lock in self._locks.of(job.attempt, name)]
        giving = Counter(lock.name for lock in given)
        less = lowered(self._cache, given, lambda name: self._locks.counted(name) - giving[name])
        planned = self._plan(takes, less)
        counts = self._changed_counts({**less, **planned.counts})
        change = _Change(given, list(self._new_locks(planned)), counts)
        done = not change or await self._write(change)
        if done:
            self._finish(planned, gives)
        return done

    def _finish(self, planned: Plan[Job], gives: Sequence[Job]) -> None:
        for job in gives:
            job.finish(None)
        for job, added in planned.granted:
            self._grant(job, added)

    async def _to_blame(self, job: Job) -> Sequence[str]:
        """Ask for each resource alone, in a transaction that can't change anything."""
        if len(job.names) == 1:
            return job.names
        blamed = []
        for name in job.names[:MOST_BLAMED]:
            count, lock = self._key(name, tree.REF_COUNT), self._key(name, self._longest_lock)
            writes = [v3wire.put(count, "0"), v3wire.put(lock, "0")]
            try:
                await self._commit(Transaction([v3wire.never(count)], writes, list(self._reads(name))))
            except RequestRefused:
                blamed.append(name)
        return blamed or job.names

    def _changed_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the counts to write. One that is lowered and raised by the same number is left out."""
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
        """Write counts and lock keys, or take in the values that differ from what was known."""
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
        uncounted = {lock.name: self._cache.uncounted(lock.name) for lock in (*change.given, *change.taken)}
        for lock in change.given:
            self._locks.drop(lock, revision)
        for lock in change.taken:
            self._locks.add(replace(lock, revision=revision))
        entries = {name: Entry(str(count), revision) for name, count in change.counts.items()}
        changed = [name for name in entries if self._cache.put(name, tree.REF_COUNT, entries[name])]
        self._tell([*changed, *(n for n, known in uncounted.items() if self._cache.uncounted(n) != known)])

    async def _read_again(
        self, taking: Sequence[str], giving: Sequence[str], given: Sequence[Lock]
    ) -> None:
        """Read again what a transaction was based on, because others have changed it."""
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
        windows = dict(self._cache.windows(name))
        # Keys there that belong to no window have been seen as well.
        newest = max(self._cache.whole_at(name), *(entry.revision for entry in windows.values()), 0)
        # A range shows new and changed keys, but not deleted ones.
        yield v3wire.none_newer(self._key(name, tree.WINDOWS, ""), newest)
        for field in self._windows_now(name):
            yield v3wire.unchanged(self._key(name, field), windows[field].revision)

    def _windows_now(self, name: str) -> list[str]:
        """Return the keys of the windows that count now. It does not matter if others are deleted.

        Returns as many as fit into a transaction; the watch reports changes of the rest.
        """
        resource, local = self._cache.get(name), self._local_time()
        if resource is None or not resource.windows:
            return []
        inside = {window.id for window in resource.windows if window.contains(local)}
        fields = [field for field, _ in self._cache.windows(name) if _window_id(field) in inside]
        return fields[: max(0, self._limits.operations - FIRST)]

    def _reads(self, name: str) -> Iterable[Operation]:
        yield v3wire.get(self._key(name, tree.AVAILABLE))
        yield v3wire.get(self._key(name, tree.REF_COUNT))
        # The range may contain keys of other resources; they are left out when the answer is read.
        yield v3wire.get_range(self._key(name, tree.REF_LIMIT), self._key(name, tree.SOURCE) + b"\0")
        yield v3wire.get_prefix(self._key(name, tree.WINDOWS, ""))

    def _take_in(self, names: Sequence[str], answer: TransactionAnswer) -> None:
        fields: dict[str, dict[str, Entry]] = {name: {} for name in names}
        for pair in _pairs(answer):
            at = self._resource_key(pair)
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
                log_removed(lock)
                self._locks.drop(lock, revision)
        changed = []
        for name in names:
            pair = there.get(self._key(name, tree.REF_COUNT))
            entry = Entry(None, revision) if pair is None else _entry(pair)
            if self._cache.put(name, tree.REF_COUNT, entry):
                changed.append(name)
        self._tell(changed)


def _window_id(field: str) -> str:
    return field.removeprefix(tree.WINDOWS + "/").rpartition("/")[0]


def _measure(transaction: Transaction, limit: Limit | None) -> int:
    if limit is Limit.SIZE:
        return len(msgspec.json.encode(transaction))
    return max(len(transaction.compare), len(transaction.success), len(transaction.failure))


def _entry(pair: KeyValue) -> Entry:
    return Entry(v3wire.text(pair.value), pair.mod_revision)


def _pairs(answer: TransactionAnswer) -> Iterable[KeyValue]:
    for one in answer.responses:
        if one.response_range is not None:
            yield from one.response_range.kvs
