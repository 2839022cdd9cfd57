"""The members of an Etcd cluster, and how to connect to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from tefmanager.config.endpoints import EtcdAccess
from tefmanager.config.tls_files import TlsFiles
from tefmanager.support.tls import ClientTls

Endpoint = tuple[str, int]
"""Host (an IPv6 address without brackets) and port."""


@dataclass(frozen=True, slots=True)
class Cluster(Sequence[Endpoint]):
    """The members of an Etcd cluster in the order in which they are tried, and how to connect to them.

    Attributes:
        endpoints: their addresses, at least one.
        access: the protocol and the user.
    """

    endpoints: Sequence[Endpoint]
    access: EtcdAccess = field(default_factory=EtcdAccess)

    @classmethod
    def of(cls, endpoints: Sequence[Endpoint]) -> Cluster:
        """Return these endpoints as a cluster, with the access that they carry, or else without login."""
        return endpoints if isinstance(endpoints, Cluster) else cls(endpoints)

    def __len__(self) -> int:
        return len(self.endpoints)

    @overload
    def __getitem__(self, index: int) -> Endpoint: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Endpoint]: ...
    def __getitem__(self, index: int | slice) -> Endpoint | Sequence[Endpoint]:
        return self.endpoints[index]


@implementer(IPolicyForHTTPS)
class TlsPolicy:
    """The TLS settings of https connections. Reads the files for each one, so renewed files count.

    Args:
        files: the trusted authorities and our certificate; None if no https is used.
    """

    def __init__(self, files: TlsFiles | None) -> None:
        self._files = files or TlsFiles()

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return the TLS settings of a connection to a host. Raises `TlsError` for unusable files."""
        return ClientTls(hostname.decode(), self._files)
