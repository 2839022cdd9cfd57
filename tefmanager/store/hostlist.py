"""Where the database may be: libpq's lists of hosts, one address at a time.

libpq would look names up while the reactor stands still, and an asynchronous connection of its own
gives up a silent host of a list only when TCP does. So names are looked up in a thread, and every
address is tried by itself, within a time limit.
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
        host: a name, an address, the folder of a socket, or empty for libpq's default.
        port: its port, or empty for libpq's default.
        address: the address to use for the host, or empty.
    """

    host: str
    port: str
    address: str = ""

    def __str__(self) -> str:
        """Return it for people."""
        host = self.host or self.address or "localhost"
        shown = f"[{host}]" if ":" in host else host
        if self.address not in ("", host):
            shown = f"{shown} ({self.address})"
        return f"{shown}:{self.port}" if self.port else shown

    @property
    def keywords(self) -> dict[str, str]:
        """What libpq is told. With a host, also that there is no other address, such as PGHOSTADDR."""
        found = {"host": self.host, "port": self.port}
        given = {key: value for key, value in found.items() if value}
        return {**given, "hostaddr": self.address} if self.host or self.address else given

    @property
    def is_name(self) -> bool:
        """Whether the host's address has to be looked up."""
        if self.address or not self.host or self.host.startswith(("/", "@")):
            return False
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def endpoints(dsn: Keywords) -> list[Endpoint]:
    """Return the places that ``host``, ``hostaddr`` and ``port`` name; each may be a list with commas.

    Raises `ValueError` where the lists do not go together.
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
    """Return an endpoint once for each address of its host, in the resolver's order.

    Raises `OSError` where there is none, or none is found within so many seconds.
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
