"""What both APIs share: reading, watching, losing and finding Etcd, and the queue of jobs.

The loop: read everything, tell the observer, watch from there until the watch breaks, begin again. A
request that fails ends the watch too, because its effect is unknown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.core.model.reservations import Granted, Impossible, Outcome, Refused, Reservation
from tefmanager.etcd import tree
from tefmanager.etcd.cache import Cache, Everything, Locks
from tefmanager.etcd.changing import Changing
from tefmanager.etcd.conflicts import pause_after
from tefmanager.etcd.deadwatch import DeadWatch
from tefmanager.etcd.http import Endpoint, HttpClient
from tefmanager.etcd.jobs import Capacity, Job, Jobs, Kind, all_done
from tefmanager.etcd.owner import folder
from tefmanager.etcd.ownership import Owner, OwnerKeys, Ownership
from tefmanager.etcd.plan import NOTHING_LOWERED, Plan, plan
from tefmanager.etcd.refusals import Culprits, RequestRefused
from tefmanager.etcd.settle import INTENT
from tefmanager.etcd.timeline import Timeline
from tefmanager.interfaces.etcd import IReservations, IResourceObserver, ReservationsLost
from tefmanager.support.backoff import Backoff
from tefmanager.support.lease import Lease, seconds_since_boot

STEADY = 1.0
"""Seconds that a watch must last to count as a success."""


@implementer(IReservations)
class EtcdReservations(ABC):
    """Reservations in Etcd. A subclass for each API defines how to read, watch, take and give back.

    Args:
        reactor: connects, and measures time.
        endpoints: where Etcd is, at least one; tried in turn.
        base: the folder of all resources, such as ``/tef/dev/resources``.
        prefix: the name prefix, part of our lock keys.
        local_time: returns naive local time, for windows.
        wall_time: returns unix time, for lock keys.
        timeout: seconds to wait for an answer.
        lease: writes wait while it does not hold.
        on_conflict: is called when a write must be retried because another program changed the same keys.
        owner: the only manager that may use the lock keys; None if that is not checked.
    """

    max_batches = 2
    """How many batches of jobs are under way at a time; more would only make each smaller."""

    watch_patience = 1.0
    """Seconds that a watch may lag behind before it counts as dead."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        endpoints: Sequence[Endpoint],
        base: str,
        prefix: str,
        local_time: Callable[[], datetime],
        wall_time: Callable[[], float],
        timeout: float = 5.0,
        lease: Lease | None = None,
        on_conflict: Callable[[], None] = lambda: None,
        owner: Owner | None = None,
    ) -> None:
        self._on_conflict = on_conflict
        self._lease = Lease.unlimited() if lease is None else lease
        self._reactor = reactor
        self._base = base.rstrip("/")
        self._prefix = prefix
        self._local_time = local_time
        self._wall_time = wall_time
        self._http = HttpClient(reactor, endpoints, timeout, self._lease)
        keys = self._owner_keys(folder(self._base, prefix))
        self._owned = Ownership(owner, keys, seconds_since_boot, timeout)
        self._backoff = Backoff(reactor)
        self._locks = Locks()
        self._changing = Changing(reactor, self._tell)
        self._cache = Cache(self._locks.counted, self._changing)
        self._timeline = Timeline()
        self._uncertain: set[int] = set()
        self._jobs = Jobs(
            self._work, self._new_capacity, self.max_batches, lambda call: reactor.callLater(0, call)
        )
        self._reading = DeferredLock()
        self._observer: IResourceObserver | None = None
        self._lost: str | None = "not read yet"
        self._told_lost = ""
        self._stopped = False
        self._loop: Deferred[None] | None = None
        self._watching: Deferred[None] | None = None
        self._read_revision = 0
        self._times_read = 0
        self._news = 0
        self._dead_watch = DeadWatch()

    # --- IReservations ---

    def start(self, observer: IResourceObserver) -> None:
        """See `IReservations`."""
        self._observer = observer
        self._loop = Deferred.fromCoroutine(self._run())
        self._loop.addErrback(self._loop_ended)

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Outcome]:
        """See `IReservations`. References that an attempt already holds are not taken again."""
        self._check()
        await self._look_up_uncertain(reservations)
        jobs = [self._taking(reservation) for reservation in reservations]
        await self._do(jobs)
        return [job.answer for job in jobs]

    async def release(self, reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        """See `IReservations`."""
        self._check()
        await self._look_up_uncertain(reservations)
        jobs = [job for reservation in reservations for job in self._giving(reservation)]
        await self._do(jobs)
        kept = [job.outcome for job in jobs if isinstance(job.outcome, Impossible)]
        self._uncertain.difference_update(
            {reservation.attempt for reservation in reservations} - {each.attempt for each in kept}
        )
        return kept

    async def refresh(self) -> None:
        """See `IReservations`. If the watch has missed what this read finds, it is replaced."""
        self._check()
        try:
            await self._owned.hold()
            behind = await self._read_and_tell()
        except ReservationsLost as lost:
            self._lose(str(lost))
            raise
        if self._dead_watch.suspect(behind, self._news, self._reactor.seconds(), self.watch_patience):
            self._log.warn("the watch of Etcd's changes was dead; it is renewed")
            self._end_watch()

    async def stop(self) -> None:
        """See `IReservations`."""
        self._stopped = True
        self._lost = "stopped"
        if self._loop is not None:
            self._loop.cancel()
        await self._owned.leave()
        await self._http.close()
        self._jobs.cancel()
        self._changing.stop()

    @property
    def empty(self) -> bool:
        """Whether everything was read and Etcd contains nothing."""
        return self._lost is None and self._cache.is_empty and not self._locks.held()

    # --- for the two APIs to fill in ---

    @abstractmethod
    def _owner_keys(self, folder: str) -> OwnerKeys:
        """Return the keys that say which manager owns the lock keys."""

    @abstractmethod
    async def _read(self) -> Everything:
        """Read everything below the base."""

    @abstractmethod
    async def _follow(self) -> None:
        """Call `_read_and_tell`, then report all later changes for as long as possible."""

    @abstractmethod
    async def _carry_out(self, jobs: Sequence[Job]) -> None:
        """Give references back, finishing those jobs with None; then take others, finishing with outcomes.

        Raises `RequestRefused` if Etcd refuses something that a job needs. Unfinished jobs then hold
        nothing, or ``_uncertain`` contains their attempts.
        """

    def _smaller(self, refused: RequestRefused) -> bool:
        """Learn a limit; tell whether the same can be done in smaller pieces."""
        return False

    async def _to_blame(self, job: Job) -> Sequence[str]:
        """Return the resources because of which Etcd refuses a job, as far as that can be found out."""
        return job.names

    @abstractmethod
    def _new_capacity(self) -> Capacity:
        """Return the capacity of an empty batch."""

    @abstractmethod
    async def _look_up(self, attempt: int, name: str) -> None:
        """Read an attempt's lock keys on one resource."""

    @abstractmethod
    async def _settle(self) -> None:
        """Finish operations that were interrupted. Called after the first read since Etcd was lost."""

    # --- the loop ---

    async def _run(self) -> None:
        while True:
            began = self._reactor.seconds()
            try:
                await self._connect()
            except ReservationsLost as lost:
                self._lose(str(lost))
            except CancelledError:
                raise
            except Exception as error:
                # Whatever the error is, the resources must stay watched.
                self._log.failure("reading and watching Etcd failed; trying again")
                self._lose(f"unexpected: {error!r}")
            if self._stopped:
                return
            if self._reactor.seconds() - began > STEADY and self._lost is None:
                self._backoff.reset()
            else:
                await self._backoff.pause()

    async def _connect(self) -> None:
        """Read everything, then watch until the watch ends."""
        await self._owned.hold()
        reads = self._times_read
        self._watching = Deferred.fromCoroutine(self._follow())
        try:
            await self._watching
        except CancelledError:
            if self._stopped:
                raise
        except ReservationsLost as lost:
            if self._times_read == reads:
                raise
            self._log.warn("the watch of Etcd's changes broke: {reason}", reason=str(lost))
        finally:
            self._watching = None

    async def _read_and_tell(self) -> bool:
        """Read everything and tell the observer; return whether anything was new."""
        await self._reading.acquire()
        try:
            behind = await self._read_all()
            if self._lost is not None:
                await self._settle()
            self._times_read += 1
            self._lost = None
            self._told_lost = ""
            self._tell_all()
        finally:
            self._reading.release()
        self._check()  # the observer's reaction may have lost Etcd already, before there was a watch to end
        return behind

    async def _read_all(self) -> bool:
        found = await self._read()
        if (reason := self._timeline.replaced() or self._cache.contradiction(found)) is not None:
            self._locks = Locks()
            self._cache = Cache(self._locks.counted, self._changing)
            if self._observer is not None:
                self._observer.resources_replaced(reason)
        self._read_revision = found.revision
        self._locks.read_all(found.locks, found.revision)
        return bool(self._cache.read_all(found.fields, found.revision))

    def _lose(self, reason: str) -> None:
        if self._stopped:
            return
        self._lost = reason
        self._end_watch()
        if self._told_lost != reason and self._observer is not None:
            self._told_lost = reason
            self._observer.resources_lost(reason)

    def _end_watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    def _loop_ended(self, failure: Failure) -> None:
        if not (self._stopped and isinstance(failure.value, CancelledError | ReservationsLost)):
            self._log.failure("reading and watching Etcd ended", failure)

    async def _leading(self) -> None:
        """Return when we certainly are the active manager. Raises `ReservationsLost` if we are not."""
        if not await self._lease.certain():
            raise ReservationsLost("this manager is no longer the active one")
        if not self._owned.holds:
            raise ReservationsLost("the sign of life has not been renewed in time")

    # --- telling the observer ---

    def _tell_all(self) -> None:
        if self._observer is not None and not self._stopped:
            taking = self._jobs.taking()  # the answer to their reservation says what they hold
            held = {each: names for each, names in self._locks.held().items() if each not in taking}
            self._observer.resources_read(self._cache.all(), held)

    def _tell(self, names: Iterable[str]) -> None:
        seen = {name: self._cache.get(name) for name in names}
        if seen and self._observer is not None and not self._stopped:
            self._observer.resources_seen(seen)

    # --- work ---

    def _check(self) -> None:
        if self._lost is not None:
            raise ReservationsLost(self._lost)

    def _taking(self, reservation: Reservation) -> Job:
        # A resource without an entry may still be held.
        names = [
            name
            for name in sorted(set(reservation.resources))
            if self._cache.get(name) is not None or self._holds(reservation.attempt, name)
        ]
        return Job(Kind.TAKE, reservation.attempt, tuple(names))

    def _keep_held(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            job.kept = tuple(name for name in job.names if self._holds(job.attempt, name))
            job.names = tuple(name for name in job.names if name not in job.kept)

    def _holds(self, attempt: int, name: str) -> bool:
        return any(lock.value != INTENT for lock in self._locks.of(attempt, name))

    def _giving(self, reservation: Reservation) -> list[Job]:
        held = [
            name for name in sorted(set(reservation.resources)) if self._locks.of(reservation.attempt, name)
        ]
        return [Job(Kind.GIVE, reservation.attempt, (name,)) for name in held]

    async def _do(self, jobs: Sequence[Job]) -> None:
        self._jobs.add(jobs)
        await all_done(jobs)
        for job in jobs:
            if isinstance(job.error, ReservationsLost):
                raise ReservationsLost(str(job.error)) from job.error
            if job.error is not None:
                raise job.error

    async def _work(self, jobs: Sequence[Job]) -> None:
        self._check()
        takes, gives = ([job for job in jobs if job.kind is kind] for kind in Kind)
        self._keep_held(takes)
        try:
            await Culprits(self._carry_out, self._smaller, self._to_blame).sort_out([*gives, *takes])
            self._uncertain.update(job.attempt for job in jobs if isinstance(job.outcome, Impossible))
        except ReservationsLost as lost:
            self._uncertain.update(job.attempt for job in jobs)
            self._lose(str(lost))
            raise
        finally:
            if self._lost is not None:
                self._jobs.fail_waiting(ReservationsLost(self._lost))

    async def _look_up_uncertain(self, reservations: Sequence[Reservation]) -> None:
        try:
            for reservation in reservations:
                if reservation.attempt in self._uncertain:
                    await self._look_up_all(reservation)
        except ReservationsLost as lost:
            self._lose(str(lost))
            raise

    async def _look_up_all(self, reservation: Reservation) -> None:
        for name in sorted(set(reservation.resources)):
            if self._cache.get(name) is not None:
                await self._look_up(reservation.attempt, name)

    def _plan(self, jobs: Sequence[Job], lowered: Mapping[str, int] = NOTHING_LOWERED) -> Plan[Job]:
        """Grant jobs for which there is room and refuse the others, given counts that are lowered first."""
        planned = plan(jobs, self._cache.get, self._local_time(), lowered)
        for job, short in planned.refused:
            job.finish(Refused(job.attempt, short))
        return planned

    def _grant(self, job: Job, taken: Iterable[str]) -> None:
        job.finish(Granted(job.attempt, tuple(sorted((*job.kept, *taken)))))

    def _lock_field(self, job: Job, count: int) -> str:
        return tree.lock_field(self._prefix, job.attempt, self._wall_time(), count)

    async def _pause_after_conflict(self, conflicts: int) -> None:
        self._on_conflict()
        await pause_after(conflicts, self._reactor)
