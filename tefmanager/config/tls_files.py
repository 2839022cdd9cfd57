"""Checks the files for TLS. Pure."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tefmanager.config.kinds import shown_path

BEGIN = "-----BEGIN CERTIFICATE-----"
"""The first line of each certificate in a PEM file."""


class FileFault(ValueError):
    """A file can't be used; the text names it and says why, in one line and without its content.

    Attributes:
        path: the file.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{shown_path(path)} {why}")
        self.path = path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files for one service.

    Attributes:
        ca: certificates of the CAs to trust; None: those that the system trusts.
        cert: the manager's certificate, followed by those of its issuers; None: none is sent.
        key: its private key; None: it is in the file of the certificate.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


def check_ca(path: str) -> None:
    """Raise `FileFault` unless a file contains CA certificates."""
    _certificates(path)


def check_identity(cert: str, key: str | None = None, password: str | None = None) -> None:
    """Raise `FileFault` unless one file contains a certificate and the other its private key.

    ``key`` may be the same file, or None for that. ``password`` decrypts the key; without one, an encrypted
    key is a fault.
    """
    _certificates(cert)
    key_file = cert if key is None else key
    if "PRIVATE KEY-----" not in _text(key_file):
        raise FileFault(key_file, "holds no private key (PEM)")
    _check_pair(cert, key_file, password)


def _check_pair(cert: str, key: str, password: str | None) -> None:
    def wanted() -> str:
        # Without this, OpenSSL would ask for a password on the terminal.
        if password is None:
            raise FileFault(key, "is encrypted, expected a private key without a passphrase")
        return password

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, wanted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise FileFault(key, f"is not the key of {shown_path(cert)}") from None
        raise FileFault(key, "holds no private key that can be read") from None
    except OSError as error:
        _refuse(key, error)


def _certificates(path: str) -> None:
    if BEGIN not in _text(path):
        raise FileFault(path, "holds no certificate (PEM)")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise FileFault(path, "holds no certificate that can be read") from None
    except OSError as error:
        _refuse(path, error)


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except (OSError, ValueError) as error:
        _refuse(path, error)


def _refuse(path: str, error: OSError | ValueError) -> NoReturn:
    why = error.strerror if isinstance(error, OSError) else "not a file's name"
    raise FileFault(path, f"can't be read: {why}") from None
