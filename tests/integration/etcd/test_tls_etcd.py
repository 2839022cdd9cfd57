"""Reservations in an Etcd that wants https, a certificate and a login, by both APIs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from tefmanager.config.endpoints import EtcdAccess
from tefmanager.config.tls_files import TlsFiles
from tefmanager.core.model.reservations import Granted, Reservation
from tefmanager.etcd import auth
from tefmanager.etcd.auto import AutoReservations
from tefmanager.etcd.cluster import Cluster
from tefmanager.etcd.http import Answer, HttpClient, Request
from tefmanager.etcd.v2 import EtcdV2Reservations
from tefmanager.etcd.v3 import EtcdV3Reservations
from tefmanager.interfaces.etcd import ReservationsLost
from tefmanager.sandbox.machine import HOST, Account, Programs
from tests.contract.etcds import CLOCK, MONDAY_NOON, Observer
from tests.integration.amqp_support import awaited, later
from tests.integration.grid_client import fresh
from tests.integration.grid_etcd import Shared
from tests.integration.tls_servers import PASSWORD, USER, TlsEtcd, started

KINDS: dict[str, Callable[..., Any]] = {
    "v2": EtcdV2Reservations,
    "v3": EtcdV3Reservations,
    "auto": AutoReservations,
}


@pytest.fixture(scope="module")
def open_etcd() -> Iterator[TlsEtcd]:
    """An Etcd that wants certificates, and no login until a test says so."""
    from twisted.internet import reactor

    account = Account.unprivileged()
    folder = account.make_folder(Path(tempfile.mkdtemp(prefix="tef-tls-")))
    etcd = TlsEtcd(reactor, folder / "etcd", account, Programs.find())
    try:
        with started(etcd):
            yield etcd
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def etcd(open_etcd: TlsEtcd) -> TlsEtcd:
    """The same, once logins are wanted."""
    if not open_etcd.admin.locked:
        open_etcd.admin.lock()
    return open_etcd


def cluster(etcd: TlsEtcd, *hosts: str, user: str | None = USER) -> Cluster:
    """Return how to get in."""
    own = etcd.certificates
    files = TlsFiles(str(own.ca), str(own.nameless_cert), str(own.nameless_key))
    password = PASSWORD if user else ""
    return Cluster([(host, etcd.port) for host in hosts or (HOST,)], EtcdAccess(files, user, password))


class Counting(HttpClient):
    """A client that counts logins."""

    logins = 0

    async def _whole(self, request: Request, authorization: str) -> Answer:
        self.logins += request.path == auth.AUTHENTICATE
        return await super()._whole(request, authorization)


@asynccontextmanager
async def reserving(api: str, members: Cluster) -> AsyncIterator[tuple[Any, Observer]]:
    """Run reservations below the environment ``dev``."""
    base = "/tef/dev/resources"
    built = KINDS[api](CLOCK, members, base, "tef.dev", lambda: MONDAY_NOON, lambda: 1.0)
    observer = Observer()
    built.start(observer)
    try:
        yield built, observer
    finally:
        await built.stop()


async def made(etcd: TlsEtcd, api: str, limit: int = 50) -> Shared:
    """Make a resource, as another program does."""
    resource = Shared(etcd.admin.keys("v2" if api == "auto" else api), fresh("resource"))
    return await deferToThread(resource.make, limit)


@awaited
async def test_logins_that_come_later(open_etcd: TlsEtcd) -> None:
    """A user who was not asked for goes on when Etcd begins to ask, under the eyes of a running manager."""
    resource = await made(open_etcd, "v3")
    async with reserving("v3", cluster(open_etcd)) as (reservations, observer):
        await observer.until(lambda: resource.name in observer.resources)
        assert await reservations.reserve([Reservation(1, (resource.name,))]) == [
            Granted(1, (resource.name,))
        ]
        await deferToThread(open_etcd.admin.lock)
        await reservations.release([Reservation(1, (resource.name,))])
        assert await deferToThread(lambda: (resource.count, resource.locks())) == (0, [])
        assert observer.lost == []


@pytest.mark.parametrize("api", KINDS)
@awaited
async def test_each_api(etcd: TlsEtcd, api: str) -> None:
    """Reading, watching, reserving and releasing go through, also after the token ended."""
    resource = await made(etcd, api)
    async with reserving(api, cluster(etcd)) as (reservations, observer):
        await observer.until(lambda: resource.name in observer.resources)
        for attempt in (1, 2):
            reservation = Reservation(attempt, (resource.name,))
            assert await reservations.reserve([reservation]) == [Granted(attempt, (resource.name,))]
            assert await deferToThread(lambda: (resource.count, len(resource.locks()))) == (1, 1)
            await reservations.release([reservation])
            if (api, attempt) == ("v3", 1):
                await deferToThread(etcd.admin.end_tokens)
        other = await made(etcd, api)
        await observer.until(lambda: other.name in observer.resources)
        assert observer.lost == []


@awaited
async def test_many_at_once_with_an_old_token(etcd: TlsEtcd) -> None:
    """Requests under way together when the token ends are each carried out once, and cost one login."""
    resource = await made(etcd, "v3")
    async with reserving("v3", cluster(etcd)) as (reservations, observer):
        reservations._http.__class__ = Counting
        await observer.until(lambda: resource.name in observer.resources)
        wanted = [Reservation(attempt, (resource.name,)) for attempt in range(1, 41)]
        for round_ in (1, 2):
            if round_ == 2:
                await deferToThread(etcd.admin.end_tokens)
            granted = [await each for each in [later(reservations.reserve([one])) for one in wanted]]
            assert [one.attempt for [one] in granted] == [reservation.attempt for reservation in wanted]
            assert await deferToThread(lambda: (resource.count, len(resource.locks()))) == (40, 40)
            await reservations.release(wanted)
        assert reservations._http.logins == 1
        assert observer.lost == []


@pytest.mark.parametrize("api", ["v2", "v3"])
@awaited
async def test_password_that_is_changed(etcd: TlsEtcd, api: str) -> None:
    """A password that is no longer right is a loss with its reason, until it is right again."""
    resource = await made(etcd, api)
    async with reserving(api, cluster(etcd)) as (reservations, observer):
        await observer.until(lambda: resource.name in observer.resources)
        await deferToThread(etcd.admin.set_password, "another")
        try:
            with pytest.raises(ReservationsLost, match=f"not let in, as '{USER}': HTTP 40[01]"):
                await reservations.reserve([Reservation(1, (resource.name,))])
            assert len(observer.lost) == 1
        finally:
            await deferToThread(etcd.admin.set_password, PASSWORD)
        await observer.until(lambda: observer.calls[-1] == "read")
        await reservations.release([Reservation(1, (resource.name,))])
        assert len(observer.lost) == 1
        assert PASSWORD not in observer.lost[0]


@awaited
async def test_member_that_is_not_believed(etcd: TlsEtcd) -> None:
    """A member with a certificate for another name is asked nothing; the next one is."""
    resource = await made(etcd, "v3")
    async with reserving("v3", cluster(etcd, "localhost", HOST)) as (_, observer):
        await observer.until(lambda: resource.name in observer.resources)
        assert observer.lost == []


@awaited
async def test_certificate_with_a_common_name(etcd: TlsEtcd) -> None:
    """Etcd's v3 gateway refuses logins over a certificate with a common name, and that is told."""
    own = etcd.certificates
    members = cluster(etcd)
    files = TlsFiles(str(own.ca), str(own.cert), str(own.key))
    members = Cluster(members.endpoints, EtcdAccess(files, USER, PASSWORD))
    async with reserving("v3", members) as (_, observer):
        await observer.until(lambda: observer.lost)
        assert f"not let in, as '{USER}': HTTP 400: CommonName of client" in observer.lost[0]
