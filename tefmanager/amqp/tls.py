"""What a TLS connection to a broker needs, from the query keys of its URI."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tefmanager.endpoints import AmqpEndpoint
from tefmanager.tls import ClientTls


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """For ``verify=verify_none``: encrypts, but believes any certificate."""

    def __init__(self, encrypted: ClientTls) -> None:
        self._encrypted = encrypted

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = self._encrypted.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_NONE, None)
        return connection


def client_tls(endpoint: AmqpEndpoint) -> IOpenSSLClientConnectionCreator:
    """Return what a TLS connection to an endpoint needs.

    Of its options, ``cacertfile`` says whom to trust (default: the platform's roots), ``certfile`` and
    ``keyfile`` who we are, ``server_name_indication`` whose certificate to expect (default: the host's),
    and ``verify=verify_none`` to expect none. The files are read at each connection, so that renewed ones
    count. Raises `TlsError` for files that can't be used.
    """
    name = endpoint.options.get("server_name_indication", endpoint.host)
    verified = ClientTls(name, endpoint.tls_files)
    return _Unverified(verified) if endpoint.options.get("verify") == "verify_none" else verified
