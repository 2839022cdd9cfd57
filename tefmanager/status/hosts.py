"""The host names by which the page may be requested. Pure.

Another site can let its own name resolve to this address (DNS rebinding), so that a visitor's browser sends
requests here, even from behind a firewall. The ``Host`` header of such requests has the other site's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

LONGEST = 300
"""The most bytes of a host or origin that are checked."""


class Hosts:
    """Knows our host names.

    Args:
        configured: names and addresses in addition to those of this machine's loopback.
    """

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._configured = frozenset(name.lower().rstrip(".") for name in configured)

    def has(self, host: bytes | None, local: str) -> bool:
        """Tell whether a request's host is ours; ``local``: the address at which the request arrived.

        A request without a host does not come from a browser.
        """
        if host is None:
            return True
        name = _name(f"//{host[:LONGEST].decode('latin-1')}")
        return name in self._configured or _is_loopback(name) or (bool(name) and name == local)

    def is_ours(self, origin: bytes | None, host: bytes | None) -> bool:
        """Tell whether a browser's request comes from one of our pages; programs send no origin."""
        if origin is None:
            return True
        text = origin[:LONGEST].decode("latin-1").lower()
        asked = b"" if host is None else host[:LONGEST].lower()
        return text.partition("://")[2].encode("latin-1") == asked != b"" or _name(text) in self._configured


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:  # brackets without an address inside
        return ""


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(
        ".localhost"
    ):  # no resolver may resolve this to another address
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
