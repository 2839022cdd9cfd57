"""Up to when the manager has heard everything that was said to it, and whether it hears at all. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from tefmanager.support.outages import Outages, Service

PROBE_INTERVAL = 10.0
"""Seconds after which a probe that has not come back is taken for lost."""

REGULARLY = 5.0
"""Seconds between two probes when no time limit is due."""

DEAF = 24.0
"""Seconds after which a probe that has not come back means that the manager is deaf; with `REGULARLY` and a
look every second, that is noticed within 30 seconds."""

BUSY = 10.0
"""Seconds since the last message for which the manager has more to hear, and is not deaf."""

LONGEST_PAUSE = 300.0
"""Seconds between two attempts to hear again by new connections, at most."""

MOST_SENT = 100
"""Probes that are remembered while none comes back."""

CONNECTIONS = (Service.CONSUMER, Service.PUBLISHER, Service.BLOCKED)
"""While one of these is away, it is clear why no probe comes back."""


class Liveness:
    """Knows up to when everything that was said to the manager has been heard.

    Silence only counts when it is certain: a worker's heartbeat may stand in a long queue, or the machine
    may have slept. So before anyone is judged by a time limit, the manager sends a message to itself, and
    judges by what it has heard when that comes back.

    Args:
        name: tells the leadership's own probes from others'.
        send: sends a probe.

    Attributes:
        until: everything that was said before this time has been heard.
        unanswered: when the oldest probe was sent of those that have not come back, or None.
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
        """Send a probe, unless one is under way; return when to ask again."""
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
        """Send a probe if none was sent for some seconds, so that a deaf manager notices it."""
        if now - self._last >= REGULARLY:
            self.ask(now)

    def came(self, token: str) -> bool:
        """Take in a probe that came back; tell whether it is one of ours."""
        sent = self._sent.pop(token, None)
        if sent is not None:
            self.until = max(self.until, sent)
            self._sent = {other: at for other, at in self._sent.items() if at > sent}
            self.unanswered = min(self._sent.values(), default=None)
            if not self._sent:
                self._next = -inf
        return sent is not None


class Sender(Protocol):
    """Who sends probes.

    Attributes:
        probed: what became of the last one, in words.
    """

    probed: str


class LivenessCheck:
    """Notices when probes do not come back though the connections stand, and then has these made anew.

    Args:
        sender: knows what became of the last probe.
        renew: makes the connections anew.
        draw: returns a number from 0 to 1.
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
        """Send a probe if it is time to, and judge. To be called every second.

        ``delivered``: how many messages have come; while some do, new connections would be of no use.
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
        fault = "messages come, but it stands behind others still" if busy else self._sender.probed
        self._outages.began(Service.PROBE, f"the manager's own message does not come back: {fault}")
        if not busy and now >= self._next:
            self._next = now + self._pause * (1 + self._draw() / 2)
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self._renew(f"no message of the manager's own has come back for {DEAF:g} s")
