"""TLS as a client against servers on loopback: whom it believes, who it is, its words for refusals."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.amqp.tls_context import client_tls, lost_text
from tefmanager.config.endpoints import AmqpEndpoint, parse_amqp_url
from tefmanager.config.tls_files import TlsFiles
from tefmanager.support.tls import ClientTls, TlsError, reason
from tests.integration.amqp_support import awaited, the_reactor

HOST = "127.0.0.1"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass
class House:
    """A CA with an intermediate one, and a folder."""

    authority: trustme.CA
    child: trustme.CA
    folder: Path

    def write(self, name: str, *blobs: trustme.Blob) -> str:
        """Write a file and return its name."""
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    @property
    def ca(self) -> TlsFiles:
        """The files of who believes the CA and is nobody."""
        return TlsFiles(self.write("ca.pem", self.authority.cert_pem))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A CA of this module."""
    authority = trustme.CA(organization_name="Ours")
    return House(authority, authority.create_child_ca(), tmp_path_factory.mktemp("house"))


@implementer(IOpenSSLContextFactory)
class _Server:
    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def getContext(self) -> SSL.Context:
        return self._context


class _Greeter(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"welcome")


class _Guest(Protocol):
    """Fires with what the server says, or with why it says nothing."""

    def __init__(self) -> None:
        self.heard: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(data.decode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.heard.called:
            self.heard.callback(lost_text(reason, logged_in=True))


def _factory(make: Any) -> Factory:
    factory = Factory.forProtocol(make)
    factory.noisy = False
    return factory


@asynccontextmanager
async def serving(leaf: trustme.LeafCert | None = None, **context: Any) -> AsyncIterator[int]:
    """Listen with a certificate, and yield the port; clients need one of the CA ``wanted``, if there is."""
    made = context.get("made") or SSL.Context(SSL.TLS_SERVER_METHOD)
    if leaf is not None:
        leaf.configure_cert(made)
    if wanted := context.get("wanted"):
        wanted.configure_trust(made)
        made.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *found: bool(found[-1]))
    listening = the_reactor().listenSSL(0, _factory(_Greeter), _Server(made), interface=HOST)
    try:
        yield listening.getHost().port
    finally:
        await listening.stopListening()


async def greeted(port: int, tls: Any) -> str:
    """Connect and return what is heard."""
    guest = _Guest()
    endpoint = TCP4ClientEndpoint(the_reactor(), HOST, port, timeout=45)
    await wrapClientTLS(tls, endpoint).connect(_factory(lambda: guest))
    heard = await guest.heard
    cast(Any, guest.transport).abortConnection()
    return heard


@pytest.mark.parametrize("host", [HOST, "localhost", "LOCALHOST", "a.b.example.com", "bücher.example"])
@awaited
async def test_believed(house: House, host: str) -> None:
    """A certificate for the address or the name is believed, names in any case and by wildcard."""
    leaf = house.authority.issue_cert(HOST, "localhost", "*.b.example.com", "bücher.example")
    async with serving(leaf) as port:
        assert await greeted(port, ClientTls(host, house.ca)) == "welcome"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}, "has expired"),
    "not yet": ({"not_before": NOW + DAY, "not_after": NOW + 2 * DAY}, "is not valid yet"),
}


@pytest.mark.parametrize("kind", REFUSED)
@awaited
async def test_out_of_time(house: House, kind: str) -> None:
    """A certificate is good for its time only."""
    times, told = REFUSED[kind]
    async with serving(house.authority.issue_cert(HOST, **times)) as port:
        heard = await greeted(port, ClientTls(HOST, house.ca))
    assert heard == f"TLS: the server's certificate {told}"


@pytest.mark.parametrize(
    ("names", "host", "told"),
    [
        ((HOST,), "localhost", "127.0.0.1, not for localhost"),
        (("localhost", "example.com"), HOST, "localhost, example.com, not for 127.0.0.1"),
        (("a", "b", "c", "d", "e", "f"), HOST, "a, b, c, d, e, …, not for 127.0.0.1"),
    ],
)
@awaited
async def test_another_name(house: House, names: tuple[str, ...], host: str, told: str) -> None:
    """A certificate for somebody else is told with the names it has."""
    async with serving(house.authority.issue_cert(*names)) as port:
        heard = await greeted(port, ClientTls(host, house.ca))
    assert heard == f"TLS: the server's certificate is for {told}"


@awaited
async def test_name_that_is_only_common(house: House) -> None:
    """A common name is no name to be known by."""
    async with serving(house.authority.issue_cert(common_name="localhost")) as port:
        heard = await greeted(port, ClientTls("localhost", house.ca))
    assert heard == "TLS: the server's certificate is for no name at all, not for localhost"


@awaited
async def test_unknown_issuers(house: House) -> None:
    """A CA that nobody has heard of is told by name, whether we have CAs of our own or the system's."""
    stranger = trustme.CA(organization_name="Stranger")
    told = "TLS: the server's certificate was issued by a CA that we do not trust, 'Stranger'"
    async with serving(stranger.issue_cert(HOST)) as port:
        for files in (house.ca, TlsFiles()):
            assert await greeted(port, ClientTls(HOST, files)) == told


@awaited
async def test_chain_with_a_gap(house: House) -> None:
    """The server's chain leads to our CA, or it is not believed."""
    leaf = house.child.issue_cert(HOST)
    async with serving(leaf) as port:
        assert await greeted(port, ClientTls(HOST, house.ca)) == "welcome"
    bare = SSL.Context(SSL.TLS_SERVER_METHOD)
    bare.use_privatekey_file(house.write("bare.key", leaf.private_key_pem))
    bare.use_certificate_file(house.write("bare.pem", leaf.cert_chain_pems[0]))
    async with serving(made=bare) as port:
        heard = await greeted(port, ClientTls(HOST, house.ca))
    assert "was issued by a CA that we do not trust" in heard


@awaited
async def test_self_signed(house: House) -> None:
    """A certificate that vouches for itself is not believed."""
    alone = trustme.CA()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_privatekey_file(house.write("alone.key", alone.private_key_pem))
    context.use_certificate_file(house.write("alone.pem", alone.cert_pem))
    async with serving(made=context) as port:
        heard = await greeted(port, ClientTls(HOST, house.ca))
    assert heard == "TLS: the server's certificate is self-signed, and not one of those we trust"


@awaited
async def test_unverified(house: House) -> None:
    """With ``verify=verify_none`` any certificate will do."""
    async with serving(trustme.CA().issue_cert("somebody.example.com")) as port:
        url = f"amqps://{HOST}:{port}?verify=verify_none"
        assert await greeted(port, client_tls(parse_amqp_url(url))) == "welcome"
        assert await greeted(port, client_tls(AmqpEndpoint(HOST, port, tls=True))) != "welcome"


@awaited
async def test_our_own_certificate(house: House) -> None:
    """We show our certificate with those of its issuers, the key beside it or in the same file."""
    leaf = house.child.issue_cert("ours.example.com")
    key = house.write("ours.key", leaf.private_key_pem)
    chain = house.write("chain.pem", *leaf.cert_chain_pems)
    both = house.write("both.pem", leaf.private_key_pem, *leaf.cert_chain_pems)
    alone = house.write("ours.pem", leaf.cert_chain_pems[0])
    ca = house.ca.ca
    async with serving(house.authority.issue_cert(HOST), wanted=house.authority) as port:
        for files in (TlsFiles(ca, chain, key), TlsFiles(ca, both)):
            assert await greeted(port, ClientTls(HOST, files)) == "welcome"
        for files in (TlsFiles(ca, alone, key), TlsFiles(ca)):
            heard = await greeted(port, ClientTls(HOST, files))
            assert heard.startswith("TLS: the server refused us: "), heard


@awaited
async def test_server_without_tls(house: House) -> None:
    """A server that does not speak TLS is told to be one."""
    listening = the_reactor().listenTCP(0, _factory(_Greeter), interface=HOST)
    heard = await greeted(listening.getHost().port, ClientTls(HOST, house.ca))
    await listening.stopListening()
    assert heard.startswith("TLS: the server does not seem to speak it")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (TlsFiles("/gone/ca.pem"), "/gone/ca.pem can't be read: No such file or directory"),
        (TlsFiles(None, "/gone/x.pem"), "/gone/x.pem can't be read: No such file or directory"),
        (TlsFiles(__file__), f"{__file__} holds no certificate (PEM)"),
    ],
)
def test_files_that_went_bad(files: TlsFiles, told: str) -> None:
    """Files are read for each connection; what is wrong with them by then is told."""
    with pytest.raises(TlsError) as caught:
        ClientTls(HOST, files)
    assert str(caught.value) == f"TLS: {told}"


def test_other_errors() -> None:
    """Words are found for all that OpenSSL may say, and only for that."""
    assert reason(OSError("x")) is None
    assert reason(SSL.Error()) == "TLS: the connection failed"
    entry = ("SSL routines", "", "tlsv13 alert certificate required")
    assert reason(SSL.Error([entry, entry])) == "TLS: the server refused us: certificate required"
    assert reason(SSL.Error([("SSL routines", "", "no shared cipher")])) == "TLS: no shared cipher"


@awaited
async def test_nothing_is_left(house: House) -> None:
    """A connection that is over leaves nothing behind, believed or not."""
    left = []
    async with serving(house.authority.issue_cert(HOST)) as port:
        for host in (HOST, "localhost"):
            tls = ClientTls(host, house.ca)
            left.append(weakref.ref(tls))
            await greeted(port, tls)
            del tls
    await Deferred.fromCoroutine(_a_turn())
    gc.collect()
    assert [each() for each in left] == [None, None]


async def _a_turn() -> None:
    turn: Deferred[None] = Deferred()
    the_reactor().callLater(0.05, turn.callback, None)
    await turn
