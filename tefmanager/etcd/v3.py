"""Reservations by Etcd's v3 API: one transaction for many claims, compared by revision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count as count_up

from tefmanager.etcd import tree, v3wire
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.cache import Entry, Everything, Lock
from tefmanager.etcd.jobs import Job, Kind
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


class EtcdV3Reservations(EtcdReservations):
    """Reservations through the v3 JSON gateway.

    A transaction compares the revision of everything that a decision was made by, so it is done on exactly
    that or not at all; where not, its answer brings the fresh values.
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

    def _fits(self, batch: Sequence[Job], job: Job) -> bool:
        if not batch:
            return True
        jobs = (*batch, job)
        names = {name for one in jobs for name in one.names}
        writes = len(names) + sum(len(one.names) for one in jobs)
        compares = sum(self._compares(name) for name in names) if job.kind is Kind.TAKE else 0
        return max(compares, writes) <= MAX_OPERATIONS

    async def _commit(self, transaction: Transaction) -> TransactionAnswer:
        await self._reigning()
        return await v3wire.ask(self._http, "kv/txn", transaction, TransactionAnswer)

    # --- taking ---

    def _compares(self, name: str) -> int:
        windows = min(len(self._cache.windows(name)), MAX_WINDOW_KEYS)
        return max(_READS, len(_SINGLE) + 1 + windows)

    async def _take(self, jobs: Sequence[Job]) -> None:
        parts = list(self._parts(jobs[0])) if len(jobs) == 1 else []
        if len(parts) > 1:
            await self._take_in_parts(jobs[0], parts)
        else:
            await self._take_together(jobs)

    def _parts(self, job: Job) -> Iterable[Job]:
        """Cut a job into ones that fit into a transaction each."""
        names: list[str] = []
        for name in job.names:
            part = Job(job.kind, job.attempt, tuple(names))
            if names and not self._fits([part], Job(job.kind, job.attempt, (name,))):
                yield part
                names = []
            names.append(name)
        yield Job(job.kind, job.attempt, tuple(names))

    async def _take_in_parts(self, job: Job, parts: Sequence[Job]) -> None:
        taken: list[str] = []
        for part in parts:
            await self._take_together([part])
            outcome = part.outcome
            if isinstance(outcome, Refused):
                await self._give_names(job.attempt, taken)
                job.finish(outcome)
                return
            taken.extend(outcome.reserved if isinstance(outcome, Granted) else ())
        self._grant(job, taken)

    async def _take_together(self, jobs: Sequence[Job]) -> None:
        for conflicts in count_up(1):
            waiting = [job for job in jobs if not job.done.called]
            fitting = self._first_that_fit(waiting)
            planned = self._plan(fitting)
            locks = [
                Lock(job.attempt, name, self._lock_field(job, after), str(after), 0)
                for job, added in planned.granted
                for name, after in added.items()
            ]
            if not locks or await self._write_taken(planned.counts, locks):
                for job, added in planned.granted:
                    self._grant(job, added)
                if len(fitting) == len(waiting):
                    return
            else:
                await self._pause_after_conflict(conflicts)

    def _first_that_fit(self, jobs: Sequence[Job]) -> list[Job]:
        # Windows may have been added since the batch was put together.
        fitting: list[Job] = []
        for job in jobs:
            if not self._fits(fitting, job):
                break
            fitting.append(job)
        return fitting

    async def _write_taken(self, counts: Mapping[str, int], locks: Sequence[Lock]) -> bool:
        """Write counts and lock keys, or take in the values that are no longer what we knew."""
        writes = [v3wire.put(self._key(name, tree.REF_COUNT), str(after)) for name, after in counts.items()]
        writes += [v3wire.put(self._key(lock.name, lock.field), lock.value) for lock in locks]
        compares = [compare for name in counts for compare in self._as_known(name)]
        reads = [read for name in counts for read in self._reads(name)]
        answer = await self._commit(Transaction(compares, writes, reads))
        if not answer.succeeded:
            self._take_in(list(counts), answer)
            return False
        for lock in locks:
            self._locks.add(replace(lock, revision=answer.header.revision))
        self._counted(counts, answer.header.revision)
        return True

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

    def _counted(self, counts: Mapping[str, int], revision: int) -> None:
        """Take in counts that we wrote ourselves."""
        entries = {name: Entry(str(count), revision) for name, count in counts.items()}
        self._tell([name for name in entries if self._cache.put(name, tree.REF_COUNT, entries[name])])

    # --- giving ---

    async def _give(self, jobs: Sequence[Job]) -> None:
        for conflicts in count_up(1):
            locks = [
                lock for job in jobs for name in job.names for lock in self._locks.of(job.attempt, name)
            ]
            if not locks or await self._write_given(locks):
                break
            await self._pause_after_conflict(conflicts)
        for job in jobs:
            job.finish(None)

    async def _give_names(self, attempt: int, names: Sequence[str]) -> None:
        for name in names:
            await self._give([Job(Kind.GIVE, attempt, (name,))])

    async def _write_given(self, locks: Sequence[Lock]) -> bool:
        """Delete lock keys and lower counts, or take in what is no longer as we knew."""
        names = sorted({lock.name for lock in locks})
        counts = self._lowered(locks)
        compares = [v3wire.exists(self._key(lock.name, lock.field)) for lock in locks]
        compares += [self._count_as_known(name) for name in names]
        writes = [v3wire.delete(self._key(lock.name, lock.field)) for lock in locks]
        writes += [
            v3wire.put(self._key(name, tree.REF_COUNT), str(count)) for name, count in counts.items()
        ]
        reads = [v3wire.get(self._key(lock.name, lock.field)) for lock in locks]
        reads += [v3wire.get(self._key(name, tree.REF_COUNT)) for name in names]
        answer = await self._commit(Transaction(compares, writes, reads))
        if answer.succeeded:
            for lock in locks:
                self._locks.drop(lock, answer.header.revision)
            self._counted(counts, answer.header.revision)
        else:
            self._take_in_counts(locks, names, answer)
        return answer.succeeded

    def _count_as_known(self, name: str) -> Compare:
        revision = self._cache.entry(name, tree.REF_COUNT).revision
        return v3wire.unchanged(self._key(name, tree.REF_COUNT), revision)

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
