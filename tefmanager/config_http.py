"""The settings for HTTP: where, and the token. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tefmanager import settings
from tefmanager.config_sources import Sources
from tefmanager.kinds import shown_path


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """What is served over HTTP.

    Attributes:
        endpoint: where, in Twisted's words; empty: nowhere.
        asked: somebody asked for it, and it is not the default.
        token: what a request has to bring along to do something, or None where none can.
    """

    endpoint: str = "tcp:8090:interface=127.0.0.1"
    asked: bool = False
    token: bytes | None = field(default=None, repr=False)


def http_config(sources: Sources) -> HttpConfig:
    """Return what the settings say; what is wrong goes to the problems of the sources."""
    asked = sources.find(settings.HTTP) is not None
    return HttpConfig(sources.value(settings.HTTP), asked, _token(sources))


def _token(sources: Sources) -> bytes | None:
    found = sources.find(settings.HTTP_TOKEN_FILE)
    if found is None:
        return None
    path = Path(sources.substituted(found.text))
    where = f"{found.where}: {shown_path(path)}"
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        sources.problems.append(f"{where} can't be read: {error.strerror}")
        return None
    if not token or not token.isascii() or not token.decode().isprintable() or b" " in token:
        sources.problems.append(f"{where} holds no token: printable ASCII characters, without blanks")
        return None
    return token
