"""TLS as a client: verifies servers, presents our certificate, and explains errors to people."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import service_identity
from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.config.tls_files import BEGIN, FileFault, TlsFiles, check_ca, check_identity

MOST_NAMES = 5
"""How many of a certificate's names are shown if none of them matches."""

_VERIFY_TEXTS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and not one of those we trust",
    23: "was revoked",
    26: "is not meant for servers",
}
"""OpenSSL's verification errors."""

_UNKNOWN_ISSUER = frozenset({19, 20, 21})
"""Errors which mean that the certificate chain does not lead to a trusted authority."""


class TlsError(OSError):
    """TLS with that server is impossible; the text says why. Nothing but the handshake was sent."""


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """The TLS settings of a connection to one server. Reads the files once, so make one per connection.

    Twisted's own class says of a bad certificate only that it is bad; this one says what is wrong with it.

    Args:
        host: the name or address for which the server's certificate must be valid.
        files: the trusted authorities and our certificate.
        verify: whether the server's certificate must be valid; if not, TLS only encrypts.

    Raises `TlsError` for unusable files.
    """

    def __init__(self, host: str, files: TlsFiles, *, verify: bool = True) -> None:
        self._is_address = isIPAddress(host) or isIPv6Address(host)
        self._host = host.partition("%")[0] if self._is_address else _ascii(host)
        self._verify = verify
        self._context = _context(files)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return the OpenSSL connection for a new connection."""
        connection = SSL.Connection(self._context, None)
        if not self._is_address:
            connection.set_tlsext_host_name(self._host.encode())
        if self._verify:
            connection.set_verify(SSL.VERIFY_PEER, self._verifier(tlsProtocol))
        else:
            connection.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        return connection

    def _verifier(self, protocol: TLSMemoryBIOProtocol) -> Callable[..., bool]:
        # OpenSSL keeps the callback where the garbage collector can't see it.
        place = weakref.ref(protocol)

        def verify(_: SSL.Connection, certificate: crypto.X509, number: int, depth: int, ok: int) -> bool:
            fault = None if ok else _verify_text(certificate, number, depth)
            if fault is None and depth == 0:
                fault = self._name_fault(certificate)
            there = place()
            if fault is not None and there is not None:
                failure: Failure = Failure(TlsError(f"TLS: {fault}"))  # type: ignore[no-untyped-call]
                there.failVerification(failure)  # type: ignore[no-untyped-call]
            return fault is None

        return verify

    def _name_fault(self, certificate: crypto.X509) -> str | None:
        """Return what is wrong with the names in the server's certificate."""
        found = certificate.to_cryptography()
        verify = verify_certificate_ip_address if self._is_address else verify_certificate_hostname
        try:
            verify(found, self._host)
        except (service_identity.VerificationError, service_identity.CertificateError):
            return f"the server's certificate is for {_names(found)}, not for {self._host}"
        except ValueError:
            return "the server's certificate has names that can't be read"
        return None


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise TlsError(f"TLS: {host!r} is not a host name") from None


def _verify_text(certificate: crypto.X509, number: int, depth: int) -> str:
    if number in _UNKNOWN_ISSUER:
        issuer = _shown(certificate.to_cryptography().issuer)
        return f"the server's certificate was issued by a CA that we do not trust, {issuer}"
    text = _VERIFY_TEXTS.get(number, f"was refused (OpenSSL's error {number})")
    if depth == 0:
        return f"the server's certificate {text}"
    return f"a certificate above the server's, {_shown(certificate.to_cryptography().subject)}, {text}"


def _shown(name: x509.Name) -> str:
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(oid):
            return repr(attribute.value)
    return "without a name"


def _names(certificate: x509.Certificate) -> str:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name at all"
    names = [str(name.value) for name in found]
    more = ", …" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "no name at all") + more


# --- The files -------------------------------------------------------------------------------

# Twisted has no types for the functions below.


def _context(files: TlsFiles) -> SSL.Context:
    try:
        own = _own(files)
        trusted = _trusted(files)
        options: CertificateOptions = CertificateOptions(trustRoot=trusted, **own)
        context: SSL.Context = options.getContext()
    except FileFault as fault:
        raise TlsError(f"TLS: {fault}") from None
    except SSL.Error as error:
        raise TlsError(reason(error) or "TLS: the files can't be used") from None
    return context


def _trusted(files: TlsFiles) -> Any:
    if files.ca is None:
        return platformTrust()  # type: ignore[no-untyped-call]
    check_ca(files.ca)
    return trustRootFromCertificates(_certificates(files.ca))  # type: ignore[no-untyped-call]


def _own(files: TlsFiles) -> dict[str, Any]:
    if files.cert is None:
        return {}
    check_identity(files.cert, files.key)
    first, *issuers = (each.original for each in _certificates(files.cert))
    key: Any = KeyPair.load(Path(files.key or files.cert).read_bytes(), crypto.FILETYPE_PEM)
    return {"privateKey": key.original, "certificate": first, "extraCertChain": issuers}


def _certificates(path: str) -> list[Any]:
    begin = BEGIN.encode()
    return [Certificate.loadPEM(begin + block) for block in Path(path).read_bytes().split(begin)[1:]]


# --- Words -----------------------------------------------------------------------------------


def reason(error: BaseException | None) -> str | None:
    """Return the meaning of an OpenSSL error in one line; None for other errors."""
    if not isinstance(error, SSL.Error):
        return None
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    texts = list(dict.fromkeys(_entry_text(str(entry[-1])) for entry in entries if entry))
    return f"TLS: {', '.join(texts) or 'the connection failed'}"


def _entry_text(text: str) -> str:
    alert = re.search(r"\balert (.*)", text)
    if alert is not None:
        return f"the server refused us: {alert[1]}"
    if text in ("wrong version number", "packet length too long", "record layer failure"):
        return f"the server does not seem to speak it ({text})"
    return text
