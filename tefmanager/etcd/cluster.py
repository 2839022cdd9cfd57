"""The members of an Etcd, and how to get in."""

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
    """The members of an Etcd in the order in which they are tried, and how to get in.

    Attributes:
        endpoints: where they are, at least one.
        access: by which protocol, and as whom.
    """

    endpoints: Sequence[Endpoint]
    access: EtcdAccess = field(default_factory=EtcdAccess)

    @classmethod
    def of(cls, endpoints: Sequence[Endpoint]) -> Cluster:
        """Return these, with what they say of the access; where that is nothing, it is free."""
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
    """What https connections need. Reads the files at each one, so that renewed ones count.

    Args:
        files: whom to trust, and who we are; None where there is no https.
    """

    def __init__(self, files: TlsFiles | None) -> None:
        self._files = files or TlsFiles()

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return what a connection to a host needs. Raises `TlsError` for files that can't be used."""
        return ClientTls(hostname.decode(), self._files)
