"""Etcd and reservations in memory, for tests of the layers above."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.core.model.reservations import Granted, Impossible, Outcome, Refused, Reservation
from tefmanager.core.model.resources import Resource
from tefmanager.etcd import tree
from tefmanager.etcd.capacity import FIRST
from tefmanager.etcd.changing import Changing
from tefmanager.etcd.owner import Found, Keys, folder
from tefmanager.etcd.ownership import Owner, Ownership
from tefmanager.etcd.plan import plan
from tefmanager.etcd.refusals import impossible as refused
from tefmanager.interfaces.etcd import IReservations, IResourceObserver, ReservationsLost

T = TypeVar("T")

_OPERATION = 50
"""Approximate size in bytes of an operation in a transaction, without its path below the base."""


class FakeEtcd:
    """The keys below a base, by path such as ``db/ref_count``, for any number of programs.

    ``set`` and ``delete`` are for other programs.

    Attributes:
        writable: prefixes of the keys that the manager's user may write; None: all keys.
        operations: the most operations in a transaction, like Etcd's ``--max-txn-ops``.
        size: the most bytes in a transaction, like its ``--max-request-bytes``.
        owners: for each name prefix, the two keys that say who owns its lock keys.
        replaced: the reasons why it is not what it was, one for each time that it was restored.
        connected: called when it is restored.
    """

    def __init__(self, keys: Mapping[str, str] | None = None) -> None:
        self.keys: dict[str, str] = dict(keys or {})
        self.writable: set[str] | None = None
        self.usual_limits()
        self.owners: dict[str, FakeOwnerKeys] = {}
        self.replaced: list[str] = []
        self.connected: list[Callable[[], None]] = []
        self._watchers: list[Callable[[str], None]] = []

    def usual_limits(self) -> None:
        """Set Etcd's default limits."""
        self.operations, self.size = 128, 3 * 2**19

    def set(self, path: str, value: str) -> None:
        """Write a key; watchers are notified at once."""
        self.keys[path] = value
        self._changed(path)

    def delete(self, path: str) -> None:
        """Delete a key if it exists."""
        self.keys.pop(path, None)
        self._changed(path)

    def restore(self, keys: Mapping[str, str], reason: str = "it is older than it was") -> None:
        """Replace all keys by former or other ones; all connections are cut."""
        self.replaced.append(reason)
        # Others may hold the same dict.
        self.keys.clear()
        self.keys.update(keys)
        for cut in list(self.connected):
            cut()

    def get(self, name: str) -> Resource | None:
        """Return a resource."""
        mine = ((path, value) for path, value in self.keys.items() if path.startswith(f"{name}/"))
        places = ((tree.resource_key(path), value) for path, value in mine)
        return tree.resource(name, {at.field: value for at, value in places if at and at.name == name})

    def all(self) -> dict[str, Resource]:
        """Return all resources."""
        fields: dict[str, dict[str, str]] = {}
        for path, value in self.keys.items():
            if (at := tree.resource_key(path)) is not None:
                fields.setdefault(at.name, {})[at.field] = value
        found = {name: tree.resource(name, values) for name, values in fields.items()}
        return {name: resource for name, resource in found.items() if resource is not None}

    def may_write(self, name: str) -> bool:
        """Tell whether the manager's user may change a resource's count and its lock keys."""
        keys = (f"{name}/{tree.REF_COUNT}", f"{name}/{tree.LOCKS}/")
        beginnings = tuple(self.writable or ())
        return self.writable is None or all(key.startswith(beginnings) for key in keys)

    def least_size(self, name: str) -> int:
        """Return the approximate size in bytes of the smallest transaction that takes a reference."""
        compared = sum(_OPERATION + len(path) for path in self.keys if path.startswith(f"{name}/"))
        return compared + 2 * (_OPERATION + len(f"{name}/{tree.REF_COUNT}"))

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call a function with a resource's name whenever one of its keys is written or deleted."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[str], None]) -> None:
        """Stop calling a function."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def _changed(self, path: str) -> None:
        at = tree.resource_key(path)
        if at is not None and not at.is_lock:
            for watcher in list(self._watchers):
                watcher(at.name)


class FakeOwnerKeys:
    """See `OwnerKeys`; ``alive`` expires, as in Etcd."""

    def __init__(self, folder: str, clock: IReactorTime) -> None:
        self.folder = folder
        self.keys = Keys()
        self._clock = clock
        self._until = 0.0

    async def read(self) -> Keys:
        """See `OwnerKeys.read`."""
        return Keys(self.keys.grid, self.keys.alive if self._clock.seconds() < self._until else None)

    async def write(self, found: Keys, grid: str, alive: str, ttl: int) -> Keys | None:
        """See `OwnerKeys.write`."""
        if await self.read() != found:
            return None
        revision = max((key.revision for key in (found.grid, found.alive) if key), default=0) + 1
        self.keys = Keys(Found(grid, revision), Found(alive, revision))
        self._until = self._clock.seconds() + ttl
        return self.keys

    async def leave(self, found: Keys) -> None:
        """See `OwnerKeys.leave`."""
        self._until = 0.0 if await self.read() == found else self._until

    async def forget(self, found: Keys) -> bool:
        """See `OwnerKeys.forget`."""
        self.keys = Keys() if (same := await self.read() == found) else self.keys
        return same


@implementer(IReservations)
class FakeReservations:
    """Reservations in a `FakeEtcd`.

    Args:
        etcd: the keys.
        prefix: the name prefix in lock keys.
        local_time, wall_time: as for the real ones.
        clock: everything happens in its calls, after ``delay``.
        owner: as for the real ones.

    Attributes:
        delay: seconds until a call is answered.
        calls: all calls in order, as ("reserve" or "release", reservation).
    """

    def __init__(
        self,
        etcd: FakeEtcd,
        prefix: str,
        local_time: Callable[[], datetime],
        wall_time: Callable[[], float],
        clock: IReactorTime,
        owner: Owner | None = None,
    ) -> None:
        self.delay = 0.0
        self.calls: list[tuple[str, Reservation]] = []
        self._etcd = etcd
        self._prefix = prefix
        self._local_time = local_time
        self._wall_time = wall_time
        self._clock = clock
        owner_folder = folder("/tef/fake/resources", prefix)
        keys = etcd.owners.setdefault(prefix, FakeOwnerKeys(owner_folder, clock))
        self._owned = Ownership(owner, keys, clock.seconds, 0.0)
        self._observer: IResourceObserver | None = None
        self._lost: str | None = "not read yet"
        self._told_lost = False
        self._unanswered: list[bool] = []
        self._known: dict[str, Resource | None] = {}
        self._changing = Changing(clock, self._settled)
        self._stopped = False
        self._replaced = len(etcd.replaced)

    # --- for tests ---

    def lose(self, reason: str) -> None:
        """Take Etcd away."""
        if not self._stopped:
            self._lost = reason
            self._disconnect()
            self._tell_lost(reason)

    def come_back(self) -> None:
        """Bring Etcd back; it is read as soon as nobody else uses the lock keys."""
        if not self._stopped:
            Deferred.fromCoroutine(self._owned.hold()).addCallbacks(self._read, self._rival)

    def _rival(self, failure: Failure) -> None:
        self._give_way(str(failure.value))

    def _give_way(self, reason: str) -> None:
        self.lose(reason)
        self._clock.callLater(1.0, lambda: self.come_back() if self._lost == reason else None)

    def _tell_lost(self, reason: str) -> None:
        if self._observer is not None and not self._told_lost:
            self._told_lost = True
            self._observer.resources_lost(reason)

    def _read(self, _: object) -> None:
        if not self._stopped:
            self._lost, self._told_lost = None, False
            self._disconnect()
            self._etcd.watch(self._touched)
            self._etcd.connected.append(self._cut)
            if self._observer is not None and len(self._etcd.replaced) > self._replaced:
                self._observer.resources_replaced(self._etcd.replaced[-1])
            self._replaced = len(self._etcd.replaced)
            self._tell_all()

    def _disconnect(self) -> None:
        self._etcd.unwatch(self._touched)
        if self._cut in self._etcd.connected:
            self._etcd.connected.remove(self._cut)

    def _cut(self) -> None:
        self.lose("the connection was cut")

    def leave_unanswered(self, *, took_effect: bool) -> None:
        """Make the next call fail with `ReservationsLost` and lose Etcd, whether or not it took effect."""
        self._unanswered.append(took_effect)

    def take_late(self, reservations: Sequence[Reservation]) -> None:
        """Carry out a reservation that nobody waits for any more."""
        for reservation in reservations:
            self._reserve(reservation)

    def give_late(self, reservations: Sequence[Reservation]) -> None:
        """Carry out a release that nobody waits for any more."""
        self._release_all(reservations)

    # --- IReservations ---

    def start(self, observer: IResourceObserver) -> None:
        """See `IReservations`."""
        self._observer = observer
        self._clock.callLater(0, self.come_back)

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Outcome]:
        """See `IReservations`."""
        self.calls.extend(("reserve", reservation) for reservation in reservations)
        self._check_owner()
        return await self._answered(lambda: [self._reserve(reservation) for reservation in reservations])

    async def release(self, reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        """See `IReservations`."""
        self.calls.extend(("release", reservation) for reservation in reservations)
        self._check_owner()
        return await self._answered(lambda: self._release_all(reservations))

    async def refresh(self) -> None:
        """See `IReservations`."""
        self._check()
        try:
            await self._owned.hold()
        except ReservationsLost as lost:
            self._give_way(str(lost))
            raise
        await self._answered(self._tell_all)

    async def stop(self) -> None:
        """See `IReservations`."""
        self._stopped = True
        self._lost = "stopped"
        self._disconnect()
        self._changing.stop()
        await self._owned.leave()

    # --- inside ---

    async def _answered(self, work: Callable[[], T]) -> T:
        self._check()
        await deferLater(self._clock, self.delay)
        self._check()
        if not self._unanswered:
            return work()
        if self._unanswered.pop(0):
            work()
        self.lose("no answer")
        raise ReservationsLost("no answer")

    def _check_owner(self) -> None:
        if self._lost is None and not self._owned.holds:
            self._give_way("the sign of life has not been renewed in time")

    def _check(self) -> None:
        if self._lost is not None:
            raise ReservationsLost(self._lost)

    def _reserve(self, reservation: Reservation) -> Outcome:
        names = sorted(set(reservation.resources))
        if (refusal := self._refusal(reservation)) is not None:
            return refusal
        kept = [name for name in names if self._locks(reservation.attempt, name)]
        wanted = _Wanted([name for name in names if name not in kept])
        planned = plan([wanted], self._get, self._local_time())
        for _, short in planned.refused:
            return Refused(reservation.attempt, short)
        for name, count in planned.counts.items():
            field = tree.lock_field(self._prefix, reservation.attempt, self._wall_time(), count)
            self._etcd.set(f"{name}/{field}", str(count))
            self._etcd.set(f"{name}/{tree.REF_COUNT}", str(count))
        return Granted(reservation.attempt, tuple(sorted((*kept, *planned.counts))))

    def _refusal(self, reservation: Reservation) -> Impossible | None:
        """Return why Etcd refuses, and would refuse again, or None; names without keys do not matter."""
        there = sorted(
            n for n in {*reservation.resources} if self._etcd.get(n) or self._locks(reservation.attempt, n)
        )
        denied = [name for name in there if not self._etcd.may_write(name)]
        if denied:
            return refused(reservation.attempt, denied, "permission denied")
        if there and self._etcd.operations < FIRST:
            return refused(reservation.attempt, there, "too many operations in txn request")
        too_large = [name for name in there if self._etcd.least_size(name) > self._etcd.size]
        return refused(reservation.attempt, too_large, "request is too large") if too_large else None

    def _release_all(self, reservations: Sequence[Reservation]) -> list[Impossible]:
        refusals = [self._release(reservation) for reservation in reservations]
        return [refusal for refusal in refusals if refusal is not None]

    def _release(self, reservation: Reservation) -> Impossible | None:
        held = Reservation(
            reservation.attempt,
            tuple(n for n in reservation.resources if self._locks(reservation.attempt, n)),
        )
        for name in sorted(name for name in held.resources if self._etcd.may_write(name)):
            for path in self._locks(reservation.attempt, name):
                self._etcd.delete(path)
                count = tree.number(self._etcd.keys.get(f"{name}/{tree.REF_COUNT}"))
                if count is not None and count > self._own(name):
                    self._etcd.set(f"{name}/{tree.REF_COUNT}", str(count - 1))
                self._touched(name)
        return self._refusal(held)

    def _own(self, name: str) -> int:
        return self._owns(path for path in self._etcd.keys if path.startswith(f"{name}/{tree.LOCKS}/"))[
            name
        ]

    def _owns(self, paths: Iterable[str]) -> Counter[str]:
        """Count our own references among keys, by resource."""
        locks = [at for path in paths if (at := tree.resource_key(path)) and at.is_lock]
        return Counter(at.name for at in locks if tree.lock_attempt(self._prefix, at.lock_id) is not None)

    def _get(self, name: str) -> Resource | None:
        found = self._etcd.get(name)
        return None if found is None else self._strictest(found, self._own(name))

    def _strictest(self, found: Resource, own: int) -> Resource:
        return self._changing.strictest(found.with_own(own))

    def _all(self) -> dict[str, Resource]:
        own = self._owns(self._etcd.keys)
        return {name: self._strictest(found, own[name]) for name, found in self._etcd.all().items()}

    def _settled(self, names: Iterable[str]) -> None:
        for name in names:
            self._touched(name)

    def _locks(self, attempt: int, name: str) -> list[str]:
        begin = f"{name}/{tree.LOCKS}/{tree.client_id(self._prefix, attempt)}~"
        return [path for path in self._etcd.keys if path.startswith(begin)]

    def _held(self) -> dict[int, frozenset[str]]:
        held: dict[int, frozenset[str]] = {}
        for path in self._etcd.keys:
            at = tree.resource_key(path)
            attempt = tree.lock_attempt(self._prefix, at.lock_id) if at and at.is_lock else None
            if at is not None and attempt is not None:
                held[attempt] = held.get(attempt, frozenset()) | {at.name}
        return held

    def _tell_all(self) -> None:
        for name, found in self._etcd.all().items():
            self._changing.found(self._known.get(name), found)
        self._known = {**self._all()}
        if self._observer is not None:
            self._observer.resources_read(self._all(), self._held())

    def _touched(self, name: str) -> None:
        self._changing.changed(self._known.get(name), self._etcd.get(name))
        resource = self._get(name)
        if self._known.get(name) != resource and self._observer is not None:
            self._known[name] = resource
            self._observer.resources_seen({name: resource})


class _Wanted:
    """What `plan` needs to know about a reservation."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
