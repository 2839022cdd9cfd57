"""Reservations through Etcd's v2 API: lock keys as intents, and compare-and-swap of the counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as count_up
from typing import Any

from tefmanager.core.model.reservations import Refused
from tefmanager.etcd import tree
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.cache import Entry, Everything, Lock
from tefmanager.etcd.gather import gather
from tefmanager.etcd.giving import log_removed, lowered
from tefmanager.etcd.jobs import Capacity, Job, Kind
from tefmanager.etcd.ownership import OwnerKeys
from tefmanager.etcd.plan import plan
from tefmanager.etcd.refusals import RequestRefused
from tefmanager.etcd.settle import INTENT, uncounted
from tefmanager.etcd.v2keys import Keys, OneResource
from tefmanager.etcd.v2owner import V2OwnerKeys
from tefmanager.etcd.v2watch import watch
from tefmanager.etcd.v2wire import Result
from tefmanager.support.backoff import Backoff

MAX_REFERENCES = 32
"""How many references are taken or given back in one batch."""

SETTLE_READS = 8
"""How many reads at most wait for others to stop changing a resource before it is settled."""

_REMOVED = frozenset({"delete", "expire", "compareAndDelete"})


@dataclass(slots=True)
class _Capacity:
    """Room for a number of references, all to take or all to give back."""

    kind: Kind | None = None
    references: int = 0

    def admits(self, job: Job) -> bool:
        """See `Capacity`."""
        if self.kind not in (None, job.kind) or self.references + len(job.names) > MAX_REFERENCES:
            return False
        self.kind = job.kind
        self.references += len(job.names)
        return True


@dataclass(slots=True, eq=False)
class _Taking:
    """A job under way: the lock keys that it is to have, and the resources that already count it."""

    job: Job
    locks: dict[str, Lock]
    counted: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class _OneName:
    taking: _Taking
    names: tuple[str]


class EtcdV2Reservations(EtcdReservations):
    """Reservations through the v2 keys API.

    v2 has no transactions: `tefmanager.etcd.settle` describes the order of writes and the repair after a
    crash. This API hides names with a part that begins with ``_``, so they have no entry. Between two
    writes, another program may lower a limit; a count never exceeds the limit that was last seen.
    """

    max_batches = 8

    settle_pause = 0.5
    """Seconds (at most; at least half of it) for which a resource must stay unchanged before it is
    settled."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._keys = Keys(self._http, self._base, self._prefix, self._leading, self._timeline)
        self._handled: set[tuple[str, str]] = set()

    # --- reading and watching ---

    def _owner_keys(self, folder: str) -> OwnerKeys:
        return V2OwnerKeys(self._http, folder)

    async def _read(self) -> Everything:
        return await self._keys.read_everything()

    async def _follow(self) -> None:
        await watch(self._http, self._base, self._read_and_tell, self._changed)

    def _changed(self, result: Result) -> None:
        self._news += 1
        node, path = result.node, self._keys.path(result.node.key)
        if path is None or (node.dir and result.action not in _REMOVED):
            return
        if result.action in _REMOVED:
            self._tell(self._cache.remove_below(path, node.modified_index))
            return
        at = tree.resource_key(path)
        if at is not None and not at.is_lock:
            self._put(at.name, at.field, Entry(node.value or "", node.modified_index))

    def _put(self, name: str, field: str, entry: Entry) -> None:
        if self._cache.put(name, field, entry):
            self._tell([name])

    async def _reread(self, name: str) -> OneResource:
        found = await self._keys.read_resource(name)
        if self._cache.read(name, found.fields, found.revision):
            self._tell([name])
        return found

    async def _look_up(self, attempt: int, name: str) -> None:
        for lock in (await self._keys.read_resource(name)).own:
            if lock.attempt == attempt:
                self._locks.add(lock)

    def _new_capacity(self) -> Capacity:
        return _Capacity()

    async def _carry_out(self, jobs: Sequence[Job]) -> None:
        takes, gives = ([job for job in jobs if job.kind is kind] for kind in Kind)
        if gives:
            await self._give(gives)
        if takes:
            await self._take(takes)

    # --- settling ---

    async def _settle(self) -> None:
        await gather(self._settle_one(name) for name in {lock.name for lock in self._in_doubt()})

    def _in_doubt(self) -> list[Lock]:
        locks = (lock for lock in self._locks.all() if lock.value == INTENT)
        return [lock for lock in locks if (lock.name, lock.field) not in self._handled]

    async def _settle_one(self, name: str) -> None:
        """Find out which of our lock keys in doubt are counted; delete those that are not."""
        found = await self._unchanging(name)
        missing = {key.field for key in uncounted(found.state)}
        there = {lock.field for lock in found.own}
        for lock in self._in_doubt():
            if lock.name == name and lock.field in there - missing:
                self._locks.add(await self._keys.write(lock, lock.field.rpartition("~")[2]))
            elif lock.name == name:
                self._locks.drop(lock, await self._keys.delete(lock))

    async def _unchanging(self, name: str) -> OneResource:
        """Read a resource until nobody seems to be changing it."""
        found = await self._reread(name)
        for _ in range(SETTLE_READS):
            before = found
            await Backoff(self._reactor, self.settle_pause).pause()
            found = await self._reread(name)
            if found.state == before.state:
                break
        return found

    # --- taking ---

    async def _take(self, jobs: Sequence[Job]) -> None:
        takings = [self._begin(job, added) for job, added in self._plan(jobs).granted]
        try:
            await self._write_intents([lock for taking in takings for lock in taking.locks.values()])
            for name in sorted({name for taking in takings for name in taking.locks}):
                await self._count(name, takings)
            await gather(self._complete(taking) for taking in takings if not taking.job.done.called)
        except RequestRefused:
            await gather(self._undo(taking) for taking in takings if not taking.job.done.called)
            raise
        finally:
            self._handled -= {key for taking in takings for key in _keys(taking.locks.values())}

    def _begin(self, job: Job, added: dict[str, int]) -> _Taking:
        return _Taking(job, {name: self._lock(job, name, after) for name, after in added.items()})

    def _lock(self, job: Job, name: str, count: int) -> Lock:
        return Lock(job.attempt, name, self._lock_field(job, count), str(count), 0)

    async def _write_intents(self, locks: Sequence[Lock]) -> None:
        self._handled |= _keys(locks)
        await gather(self._keys.write(lock, INTENT) for lock in locks)

    async def _count(self, name: str, takings: Sequence[_Taking]) -> None:
        """Raise a count for the jobs that still want it; refuse those that no longer fit."""
        for conflicts in count_up(1):
            asking = [one for one in takings if not one.job.done.called and name in one.locks]
            # Other programs may have changed the resource while the intents were written.
            if await self._sort_out(name, asking):
                continue
            if not asking or await self._raise(name, asking):
                return
            await self._reread(name)
            await self._pause_after_conflict(conflicts)

    async def _raise(self, name: str, asking: Sequence[_Taking]) -> bool:
        before = self._cache.entry(name, tree.REF_COUNT)
        after = (tree.number(before.value) or 0) + len(asking)
        entry = await self._keys.swap_count(name, before, after)
        if entry is None:
            return False
        for taking in asking:
            taking.counted.add(name)
        self._put(name, tree.REF_COUNT, entry)
        return True

    async def _sort_out(self, name: str, asking: Sequence[_Taking]) -> bool:
        """Refuse jobs that no longer fit, give others new lock keys; return whether anything was done."""
        wanted = [_OneName(taking, (name,)) for taking in asking]
        planned = plan(wanted, self._cache.get, self._local_time())
        for one, short in planned.refused:
            await self._refuse(one.taking, short)
        others = [
            (one.taking, added.get(name))
            for one, added in planned.granted
            if str(added.get(name)) != one.taking.locks[name].value
        ]
        for taking, after in others:
            await self._rename(taking, name, after)
        return bool(planned.refused or others)

    async def _rename(self, taking: _Taking, name: str, after: int | None) -> None:
        """Replace an intent by one with another count, or remove it if the resource is gone."""
        old = taking.locks.pop(name)
        if after is not None:
            taking.locks[name] = self._lock(taking.job, name, after)
            await self._write_intents([taking.locks[name]])
        self._locks.drop(old, await self._keys.delete(old))
        self._handled -= _keys([old])

    async def _refuse(self, taking: _Taking, short: str) -> None:
        for name in sorted(taking.counted):
            await self._lower([taking.locks[name]])
        await self._delete(taking.locks.values())
        taking.job.finish(Refused(taking.job.attempt, short))

    async def _undo(self, taking: _Taking) -> None:
        """Withdraw what was begun, as far as Etcd allows; the rest is looked up before it is released."""
        for name, lock in taking.locks.items():
            try:
                if name in taking.counted:
                    await self._lower([lock])
                await self._delete([lock])
            except RequestRefused:
                self._uncertain.add(taking.job.attempt)

    async def _complete(self, taking: _Taking) -> None:
        known = self._uncounted(taking.locks)
        for lock in await gather(self._keys.write(lock, lock.value) for lock in taking.locks.values()):
            self._locks.add(lock)
        self._tell_uncounted(known)
        self._grant(taking.job, taking.locks)

    def _uncounted(self, names: Iterable[str]) -> dict[str, int]:
        return {name: self._cache.uncounted(name) for name in names}

    def _tell_uncounted(self, known: Mapping[str, int]) -> None:
        """Report the resources whose counts leave out more, or fewer, of our references than before."""
        self._tell([name for name, before in known.items() if self._cache.uncounted(name) != before])

    # --- giving ---

    async def _give(self, jobs: Sequence[Job]) -> None:
        await gather(self._give_name(name, jobs) for name in {name for job in jobs for name in job.names})
        for job in jobs:
            job.finish(None)

    async def _give_name(self, name: str, jobs: Sequence[Job]) -> None:
        attempts = {job.attempt for job in jobs if name in job.names}
        if any(lock.name == name and lock.attempt in attempts for lock in self._in_doubt()):
            await self._settle_one(name)
        locks = [lock for attempt in attempts for lock in self._locks.of(attempt, name)]
        self._handled |= _keys(locks)
        known = self._uncounted([name])
        try:
            marked = [lock for lock in await gather(self._mark(lock) for lock in locks) if lock is not None]
            await self._lower(marked)
            await self._delete(marked)
        finally:
            self._handled -= _keys(locks)
        self._tell_uncounted(known)

    async def _mark(self, lock: Lock) -> Lock | None:
        """Mark a lock key as being given back; return None if somebody has removed it."""
        marked = await self._keys.change(lock, INTENT)
        if marked is None:
            log_removed(lock)
            self._locks.drop(lock, lock.revision)
        else:
            self._locks.add(marked)
        return marked

    async def _lower(self, locks: Sequence[Lock]) -> None:
        """Lower the count of one resource by the number of its lock keys."""
        for conflicts in count_up(1):
            for name, after in lowered(self._cache, locks, self._locks.counted).items():
                entry = await self._keys.swap_count(name, self._cache.entry(name, tree.REF_COUNT), after)
                self._put(name, tree.REF_COUNT, entry or await self._keys.read_count(name))
                if entry is None:
                    break
            else:
                return
            await self._pause_after_conflict(conflicts)

    async def _delete(self, locks: Iterable[Lock]) -> None:
        await gather(self._delete_one(lock) for lock in locks)

    async def _delete_one(self, lock: Lock) -> None:
        self._locks.drop(lock, await self._keys.delete(lock))


def _keys(locks: Iterable[Lock]) -> set[tuple[str, str]]:
    return {(lock.name, lock.field) for lock in locks}
