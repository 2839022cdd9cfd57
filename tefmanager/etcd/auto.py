"""Finds out which of Etcd's APIs holds the resources, and uses that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.core.model.reservations import Impossible, Outcome, Reservation
from tefmanager.etcd import v2wire, v3wire
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.http import Endpoint, HttpClient
from tefmanager.etcd.ownership import Owner
from tefmanager.etcd.v2 import EtcdV2Reservations
from tefmanager.etcd.v3 import EtcdV3Reservations
from tefmanager.interfaces.etcd import IReservations, IResourceObserver, ReservationsLost, Seen
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.support.backoff import Backoff
from tefmanager.support.lease import Lease


async def has_v2_base(http: HttpClient, base: str) -> bool:
    """Tell whether the base exists in the v2 API; it does not if that API is switched off.

    Raises `ReservationsLost`.
    """
    answer = await http.ask(v2wire.request("GET", base, quorum=True))
    if answer.status == 404:
        return False
    if answer.status == 200 and v2wire.is_here(answer.body):
        return True
    http.distrust(answer.server)
    text = answer.body[:200].decode("utf-8", "replace").strip()
    raise ReservationsLost(f"etcd {answer.server}: HTTP {answer.status} from the v2 API: {text}")


async def has_v3_keys(http: HttpClient, base: str) -> bool:
    """Tell whether the v3 API has keys below the base. Raises `ReservationsLost`."""
    below = v3wire.how_many(f"{base}/".encode())
    return (await v3wire.ask(http, "kv/range", below, v3wire.CountAnswer)).count > 0


@implementer(IResourceObserver)
class _First:
    """Passes everything on to an observer, and records when resources were first read or lost."""

    def __init__(self, observer: IResourceObserver) -> None:
        self._observer = observer
        self._known = False
        self._waiting: list[Deferred[None]] = []

    async def known(self) -> None:
        """Return when all resources have been read, or could not be read."""
        if not self._known:
            waiting: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            await waiting

    def now_known(self) -> None:
        """Let all callers of `known` continue."""
        self._known = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def resources_seen(self, seen: Seen) -> None:
        self._observer.resources_seen(seen)

    def resources_replaced(self, reason: str) -> None:
        self._observer.resources_replaced(reason)

    def resources_read(self, seen: Seen, held: Mapping[int, frozenset[str]]) -> None:
        self._observer.resources_read(seen, held)
        self.now_known()

    def resources_lost(self, reason: str) -> None:
        self._observer.resources_lost(reason)
        self.now_known()


@implementer(IReservations)
class AutoReservations:
    """Makes reservations in v2 if the base exists there, otherwise in v3; decided at the first answer.

    While the chosen API has no resources, the choice is only a guess, and each call checks it again: the
    first resource may be created long after the manager has started, and all may be moved to v3.

    The arguments are those of `tefmanager.etcd.adapter.EtcdReservations`.

    Attributes:
        api: ``v2`` or ``v3``, or None until that is known.
    """

    _log = Logger()

    api: str | None = None

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
        self._base = base.rstrip("/")
        self._http = HttpClient(reactor, endpoints, timeout)
        self._backoff = Backoff(reactor)
        arguments = (
            reactor,
            endpoints,
            base,
            prefix,
            local_time,
            wall_time,
            timeout,
            lease,
            on_conflict,
            owner,
        )
        self._make: Mapping[str, Callable[[], EtcdReservations]] = {
            "v2": partial(EtcdV2Reservations, *arguments),
            "v3": partial(EtcdV3Reservations, *arguments),
        }
        self._chosen: EtcdReservations | None = None
        self._observer: IResourceObserver | None = None
        self._lost: str | None = None
        self._choosing: Deferred[None] | None = None
        self._first: _First | None = None
        self._both: str | None = None

    def start(self, observer: IResourceObserver) -> None:
        """See `IReservations`."""
        self._observer = observer
        self._choosing = Deferred.fromCoroutine(self._choose(observer))
        self._choosing.addErrback(self._gave_up)

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Outcome]:
        """See `IReservations`."""
        return await (await self._decided()).reserve(reservations)

    async def release(self, reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        """See `IReservations`."""
        return await (await self._decided()).release(reservations)

    async def refresh(self) -> None:
        """See `IReservations`."""
        await (await self._decided()).refresh()
        await self._look_for_both()

    async def stop(self) -> None:
        """See `IReservations`."""
        if self._choosing is not None:
            self._choosing.cancel()
        await self._http.close()
        if self._chosen is not None:
            await self._chosen.stop()
        self._lost = "stopped"
        if self._first is not None:
            self._first.now_known()

    async def _decided(self) -> EtcdReservations:
        if self._chosen is not None and self._chosen.empty:
            await self._choose_again(self._chosen)
        if self._first is not None:
            await self._first.known()
        if self._chosen is None:
            raise ReservationsLost(self._lost or "not read yet")
        return self._chosen

    async def _choose_again(self, empty: EtcdReservations) -> None:
        api = await self._api_now()
        if api == self.api or self._chosen is not empty or self._observer is None:
            return  # the choice is right, or another call has changed it
        # No reservation is made until the resources there have been read.
        self._observer.resources_lost(f"resources are in the {api} API now, which is read first")
        self._first = _First(self._observer)
        self._use(api, self._first)
        await empty.stop()

    async def _api_now(self) -> str:
        return "v2" if await has_v2_base(self._http, self._base) else "v3"

    async def _choose(self, observer: IResourceObserver) -> None:
        while self._chosen is None:
            try:
                self._use(await self._api_now(), observer)
            except ReservationsLost as lost:
                self._lose(str(lost), observer)
                await self._backoff.pause()
            except CancelledError:
                raise
            except Exception as error:
                # Whatever the error is: if this coroutine ended, nothing would ever be reserved.
                self._log.failure("could not find out which API to use; trying again")
                self._lose(f"unexpected: {error!r}", observer)
                await self._backoff.pause()

        await self._look_for_both()

    async def _look_for_both(self) -> None:
        """Warn once if both APIs have resources: those of the API that is not used limit nothing."""
        try:
            both = self.api if await self._has_both() else None
        except ReservationsLost as lost:
            # The API that is used tells by itself if Etcd is away; the other one need not be there.
            self._log.debug("could not look for resources in both APIs: {reason}", reason=str(lost))
            return
        told, self._both = self._both, both
        if both is not None and both != told:
            ignored = "v3" if both == "v2" else "v2"
            emit(catalogue.RESOURCES_IN_BOTH_APIS(self._base, both, ignored))

    async def _has_both(self) -> bool:
        if self.api == "v2":
            return await has_v3_keys(self._http, self._base)
        there = self._chosen is not None and not self._chosen.empty
        return there and await has_v2_base(self._http, self._base)

    def _use(self, api: str, observer: IResourceObserver) -> None:
        self.api, self._chosen = api, self._make[api]()
        self._log.info("resources are in Etcd's {api} API", api=api)
        self._chosen.start(observer)

    def _lose(self, reason: str, observer: IResourceObserver) -> None:
        told, self._lost = self._lost, reason
        if told != reason:
            observer.resources_lost(reason)

    def _gave_up(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError | ReservationsLost):
            self._log.failure("could not find out which API to use", failure)
