"""What a TLS connection to a broker needs, from the query keys of its URI; and why one ended."""

from __future__ import annotations

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure

from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.support.tls import ClientTls, TlsError, reason


def client_tls(endpoint: AmqpEndpoint) -> IOpenSSLClientConnectionCreator:
    """Return what a TLS connection to an endpoint needs.

    Of its options, ``cacertfile`` says whom to trust (default: the platform's roots), ``certfile`` and
    ``keyfile`` who we are, ``server_name_indication`` whose certificate to expect (default: the host's),
    and ``verify=verify_none`` to expect none. The files are read at each connection, so that renewed ones
    count. Raises `TlsError` for files that can't be used.
    """
    name = endpoint.options.get("server_name_indication", endpoint.host)
    verify = endpoint.options.get("verify") != "verify_none"
    return ClientTls(name, endpoint.tls_files, verify=verify)


def lost_text(lost: Failure, *, logged_in: bool) -> str:
    """Return why a connection ended, with TLS or without, for people."""
    text = reason(lost.value) or lost.getErrorMessage()
    if logged_in or isinstance(lost.value, TlsError):
        return text
    return f"{text.rstrip('.')}. That was before the login had ended."
