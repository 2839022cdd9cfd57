"""Knows up to when the manager has heard all messages, and whether it hears any. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from tefmanager.support.outages import Outages, Service

PROBE_INTERVAL = 10.0
"""Seconds after which a probe that has not come back counts as lost."""

REGULARLY = 5.0
"""Seconds between two probes while no time limit is due."""

DEAF = 24.0
"""Seconds after which a probe that has not come back means that the manager is deaf. With `REGULARLY` and a
look every second, deafness is noticed within 30 seconds."""

BUSY = 10.0
"""As long as the last message came within this many seconds, the manager is busy and not deaf."""

LONGEST_PAUSE = 300.0
"""The longest pause between two attempts to hear again by new connections, in seconds."""

MOST_SENT = 100
"""How many unanswered probes are remembered."""

CONNECTIONS = (Service.CONSUMER, Service.PUBLISHER, Service.BLOCKED)
"""While one of these is away, it is clear why no probe comes back."""


class Liveness:
    """Knows up to when everything that was said to the manager has been heard.

    Silence proves something only when nothing is left to hear: a worker's heartbeat may stand in a long
    queue, or the machine may have slept. So before the manager judges anybody by a time limit, it sends a
    message to itself, and judges by what it has heard when that message comes back.

    Args:
        name: distinguishes this leadership's probes from those of others.
        send: sends a probe.

    Attributes:
        until: everything that was said before this time has been heard.
        unanswered: when the oldest probe was sent that has not come back, or None.
    """

    def __init__(self, name: str, send: Callable[[str], None]) -> None:
        self.until = -inf
        self.unanswered: float | None = None
        self._name = name
        self._send = send
        self._sent: dict[str, float] = {}
        self._last = -inf
        self._next = -inf
        self._count = 0

    def ask(self, now: float) -> float:
        """Send a probe unless one is under way; return when to ask again."""
        if now >= self._next:
            self._count += 1
            token = f"{self._name}.{self._count}"
            if len(self._sent) == MOST_SENT:
                del self._sent[next(iter(self._sent))]
            self._sent[token] = self._last = now
            self._next = now + PROBE_INTERVAL
            self.unanswered = now if self.unanswered is None else self.unanswered
            self._send(token)
        return self._next

    def ask_regularly(self, now: float) -> None:
        """Send a probe if none was sent for `REGULARLY` seconds, so that a deaf manager notices it."""
        if now - self._last >= REGULARLY:
            self.ask(now)

    def came(self, token: str) -> bool:
        """Take in a probe that came back; tell whether it is one of this leadership's."""
        sent = self._sent.pop(token, None)
        if sent is not None:
            self.until = max(self.until, sent)
            self._sent = {other: at for other, at in self._sent.items() if at > sent}
            self.unanswered = min(self._sent.values(), default=None)
            if not self._sent:
                self._next = -inf
        return sent is not None


class Sender(Protocol):
    """Sends probes.

    Attributes:
        probed: the outcome of the last probe, in words.
    """

    probed: str


class LivenessCheck:
    """Replaces the connections when they stand but probes do not come back.

    Args:
        sender: knows the outcome of the last probe.
        renew: replaces the connections.
        draw: returns a random number from 0 to 1.
    """

    def __init__(
        self,
        liveness: Liveness,
        outages: Outages,
        sender: Sender,
        renew: Callable[[str], None],
        draw: Callable[[], float],
    ) -> None:
        self._liveness = liveness
        self._outages = outages
        self._sender = sender
        self._renew = renew
        self._draw = draw
        self._connected = -inf
        self._delivered = 0
        self._heard = -inf
        self._pause = DEAF
        self._next = -inf

    def look(self, now: float, delivered: int) -> None:
        """Send a probe if one is due, and judge. Called every second.

        ``delivered``: how many messages have come so far. While that number grows, new connections would
        not help.
        """
        self._liveness.ask_regularly(now)
        if delivered != self._delivered:
            self._delivered, self._heard = delivered, now
        if self._outages.away(*CONNECTIONS):
            self._connected = now
            return
        since = self._liveness.unanswered
        if since is None or now - since < DEAF:
            self._outages.over(Service.PROBE)
            self._pause = DEAF
        elif now - self._connected >= DEAF:
            self._deaf(now, busy=now - self._heard < BUSY)

    def _deaf(self, now: float, *, busy: bool) -> None:
        fault = (
            "messages arrive, but it is still behind others in the queue" if busy else self._sender.probed
        )
        self._outages.began(Service.PROBE, f"the manager's own message does not come back: {fault}")
        if not busy and now >= self._next:
            self._next = now + self._pause * (1 + self._draw() / 2)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self._renew(f"no message of the manager's own has come back for {DEAF:g} s")
