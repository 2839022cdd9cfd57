"""Makes the TLS settings of a broker connection from its URI's query keys; explains why one ended."""

from __future__ import annotations

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure

from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.support.tls import ClientTls, TlsError, reason


def client_tls(endpoint: AmqpEndpoint) -> IOpenSSLClientConnectionCreator:
    """Return the TLS settings of a connection to an endpoint.

    Its options: ``cacertfile``, the authorities to trust (default: the platform's); ``certfile`` and
    ``keyfile``, our own certificate; ``server_name_indication``, the name to expect in the broker's
    certificate (default: the host); ``verify=verify_none``, to expect no certificate. The files are read
    for each connection, so renewed ones take effect. Raises `TlsError` for unusable files.
    """
    name = endpoint.options.get("server_name_indication", endpoint.host)
    verify = endpoint.options.get("verify") != "verify_none"
    return ClientTls(name, endpoint.tls_files, verify=verify)


def lost_text(lost: Failure, *, logged_in: bool) -> str:
    """Return, for people, why a connection ended, with or without TLS."""
    text = reason(lost.value) or lost.getErrorMessage()
    if logged_in or isinstance(lost.value, TlsError):
        return text
    return f"{text.rstrip('.')}. This happened before the login was complete."
