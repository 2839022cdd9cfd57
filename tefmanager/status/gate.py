"""The token: who has it may do something. Who guesses waits, and is told of in the log."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent

DELAY = 1.0
"""Seconds after which a wrong token is refused; one connection can try one at a time."""

LOG_INTERVAL = 10.0
"""Seconds between two lines about wrong tokens."""


class Gate:
    """Compares tokens in constant time.

    Args:
        token: the right one, or None where there is none.
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
        """Whether there is a token at all."""
        return self._token is not None

    def lets_in(self, authorization: bytes) -> bool:
        """Tell whether a header has the token."""
        return self._token is not None and hmac.compare_digest(authorization, b"Bearer " + self._token)

    def guessed(self, peer: str) -> None:
        """Log that a token was wrong: at once, then in one line for all of some seconds."""
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
