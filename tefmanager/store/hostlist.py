"""The addresses of the database: resolves libpq's lists of hosts to single addresses.

libpq would block the reactor while it looks names up, and its asynchronous connections leave a silent host
of a list only when TCP gives up. So names are looked up in a thread, and each address is tried separately,
with a timeout.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TypeAlias

from twisted.internet.defer import TimeoutError as LookupTimeout
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool

Keywords: TypeAlias = Mapping[str, str | int]
"""libpq's connection keywords."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to connect to.

    Attributes:
        host: a name, an address, the directory of a socket, or empty for libpq's default.
        port: its port, or empty for libpq's default.
        address: the address to use for the host, or empty.
    """

    host: str
    port: str
    address: str = ""

    def __str__(self) -> str:
        """Return the endpoint for people."""
        host = self.host or self.address or "localhost"
        shown = f"[{host}]" if ":" in host else host
        if self.address not in ("", host):
            shown = f"{shown} ({self.address})"
        return f"{shown}:{self.port}" if self.port else shown

    @property
    def keywords(self) -> dict[str, str]:
        """The keywords for libpq. With a host, they also override other addresses such as PGHOSTADDR."""
        found = {"host": self.host, "port": self.port}
        given = {key: value for key, value in found.items() if value}
        return {**given, "hostaddr": self.address} if self.host or self.address else given

    @property
    def is_name(self) -> bool:
        """Whether the host's address must be looked up."""
        if self.address or not self.host or self.host.startswith(("/", "@")):
            return False
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def endpoints(dsn: Keywords) -> list[Endpoint]:
    """Return the endpoints in ``host``, ``hostaddr`` and ``port``, each of which may be a list with commas.

    Raises `ValueError` if the lists do not match.
    """
    hosts = str(dsn.get("host", "")).split(",")
    addresses = str(dsn.get("hostaddr", "")).split(",")
    ports = str(dsn.get("port", "")).split(",")
    count = max(len(hosts), len(addresses))
    if any(len(values) not in (1, count) for values in (hosts, addresses, ports)):
        raise ValueError("database: expected as many ports as hosts, or one")
    rows = zip(*(islice(cycle(values), count) for values in (hosts, ports, addresses)), strict=True)
    return [Endpoint(host.strip(), port.strip(), address.strip()) for host, port, address in rows]


async def resolved(
    endpoint: Endpoint, reactor: IReactorThreads, clock: IReactorTime, timeout: float
) -> list[Endpoint]:
    """Return an endpoint for each address of a host, in the resolver's order.

    Raises `OSError` if there is no address, or none is found within ``timeout`` seconds.
    """
    if not endpoint.is_name:
        return [endpoint]
    pool = reactor.getThreadPool()
    lookup = deferToThreadPool(reactor, pool, _addresses, endpoint.host)
    try:
        found = await lookup.addTimeout(timeout, clock)
    except LookupTimeout as error:
        raise OSError(f"no address was found within {timeout:g} s") from error
    return [Endpoint(endpoint.host, endpoint.port, address) for address in found]


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
