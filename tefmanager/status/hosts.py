"""By which names the page may be asked for. Pure.

A web page of somebody else can let its own name lead to this address (DNS rebinding), and its browser then
sends requests here, from behind every firewall. Their ``Host`` is that page's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

LONGEST = 300
"""Bytes of a host or origin that are looked at."""


class Hosts:
    """Knows the names under which we are reached.

    Args:
        configured: names and addresses beside those of this machine's loopback.
    """

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._configured = frozenset(name.lower().rstrip(".") for name in configured)

    def has(self, host: bytes | None, local: str) -> bool:
        """Tell whether a request for a host is meant for us; ``local`` is the address at which it came.

        One that names none comes from no browser.
        """
        if host is None:
            return True
        name = _name(f"//{host[:LONGEST].decode('latin-1')}")
        return name in self._configured or _is_loopback(name) or (bool(name) and name == local)

    def is_ours(self, origin: bytes | None, host: bytes | None) -> bool:
        """Tell whether a browser's request comes from a page of ours; programs name no origin."""
        if origin is None:
            return True
        text = origin[:LONGEST].decode("latin-1").lower()
        asked = b"" if host is None else host[:LONGEST].lower()
        return text.partition("://")[2].encode("latin-1") == asked != b"" or _name(text) in self._configured


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:  # brackets without an address in them
        return ""


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):  # which no resolver may lead elsewhere
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
