"""The token: whoever has it may act. Wrong tokens are delayed and logged."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent

DELAY = 1.0
"""Seconds until a wrong token is refused. A connection can try one at a time."""

LOG_INTERVAL = 10.0
"""Seconds between two log lines about wrong tokens."""


class Gate:
    """Compares tokens in constant time.

    Args:
        token: the right token, or None if there is none.
        tell: logs a line.
    """

    def __init__(
        self, clock: IReactorTime, token: bytes | None, tell: Callable[[LoggedEvent], None]
    ) -> None:
        self._clock = clock
        self._token = token
        self._tell = tell
        self._wrong = 0
        self._quiet = False

    @property
    def exists(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def lets_in(self, authorization: bytes) -> bool:
        """Tell whether a header contains the token."""
        return self._token is not None and hmac.compare_digest(authorization, b"Bearer " + self._token)

    def guessed(self, peer: str) -> None:
        """Log a wrong token: the first at once, further ones together after some seconds."""
        self._wrong += 1
        if not self._quiet:
            self._report(peer)

    def _report(self, peer: str) -> None:
        self._tell(catalogue.HTTP_TOKEN_WRONG(peer, self._wrong))
        self._wrong = 0
        self._quiet = True
        self._clock.callLater(LOG_INTERVAL, self._listen_again, peer)

    def _listen_again(self, peer: str) -> None:
        self._quiet = False
        if self._wrong:
            self._report(peer)
