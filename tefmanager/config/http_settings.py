"""The settings for HTTP: the address, and the token. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from tefmanager.config import settings
from tefmanager.config.kinds import shown_path
from tefmanager.config.sources import Sources

SHORTEST_TOKEN = 12
"""The least number of characters of a token."""

LONGEST_TOKEN = 1024
"""How many bytes of the token's file are read."""


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """What is served over HTTP.

    Attributes:
        endpoint: the address as a Twisted endpoint; empty: no HTTP.
        asked: the address was configured; it is not the default.
        token: the token that a request for a change must contain; None: no changes are possible.
        hosts: names and addresses that requests may be for, in addition to this machine's loopback.
    """

    endpoint: str = "tcp:8090:interface=127.0.0.1"
    asked: bool = False
    token: bytes | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()


def http_config(sources: Sources) -> HttpConfig:
    """Return the HTTP configuration; problems are added to those of the sources."""
    asked = sources.find(settings.HTTP) is not None
    hosts = sources.optional(settings.HTTP_HOST) or ()
    return HttpConfig(sources.value(settings.HTTP), asked, _token(sources), hosts)


def _token(sources: Sources) -> bytes | None:
    found = sources.find(settings.HTTP_TOKEN_FILE)
    if found is None:
        return None
    path = Path(sources.substituted(found.text))
    where = f"{found.where}: {shown_path(path)}"
    try:
        with path.open("rb") as file:
            token, mode = file.read(LONGEST_TOKEN).strip(), os.fstat(file.fileno()).st_mode
    except OSError as error:
        sources.problems.append(f"{where} can't be read: {error.strerror}")
        return None
    if not token or not token.isascii() or not token.decode().isprintable() or b" " in token:
        sources.problems.append(f"{where} holds no token: printable ASCII characters, without blanks")
        return None
    if len(token) < SHORTEST_TOKEN:
        sources.problems.append(
            f"{where} holds a token of {len(token)} characters, expected at least {SHORTEST_TOKEN}"
        )
        return None
    if mode & 0o027:
        sources.warnings.append(
            f"{where} has the mode {mode & 0o777:04o}: users other than its owner and group can read it, "
            "or users other than its owner can change it; expected 0640"
        )
    return token
