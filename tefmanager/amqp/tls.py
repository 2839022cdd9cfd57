"""What a TLS connection to a broker needs, from the query keys of its URI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tefmanager.endpoints import AmqpEndpoint

BEGIN = b"-----BEGIN CERTIFICATE-----"


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """For ``verify=verify_none``: encrypts, but believes any certificate."""

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


def client_tls(endpoint: AmqpEndpoint) -> IOpenSSLClientConnectionCreator:
    """Return what a TLS connection to an endpoint needs.

    Of its options, ``cacertfile`` says whom to trust (default: the platform's roots), ``certfile`` and
    ``keyfile`` who we are, ``server_name_indication`` whose certificate to expect (default: the host's),
    and ``verify=verify_none`` to expect none. The files are read at each connection, so that renewed ones
    count. Raises `OSError` and `SSL.Error` for files that can't be read.
    """
    options = endpoint.options
    if options.get("verify") == "verify_none":
        return _Unverified()
    name = options.get("server_name_indication", endpoint.host)
    return optionsForClientTLS(name, trustRoot=_trusted(options), clientCertificate=_own(options))


# Twisted leaves the functions below without types.


def _trusted(options: Mapping[str, str]) -> Any:
    path = options.get("cacertfile")
    if path is None:
        return platformTrust()  # type: ignore[no-untyped-call]
    blocks = Path(path).read_bytes().split(BEGIN)[1:]
    roots = [Certificate.loadPEM(BEGIN + block) for block in blocks]
    return trustRootFromCertificates(roots)  # type: ignore[no-untyped-call]


def _own(options: Mapping[str, str]) -> Any:
    certificate = options.get("certfile")
    if certificate is None:
        return None
    pem = Path(options.get("keyfile", certificate)).read_bytes() + b"\n" + Path(certificate).read_bytes()
    return PrivateCertificate.loadPEM(pem)  # type: ignore[no-untyped-call]
