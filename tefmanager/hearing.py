"""Up to when the manager has heard everything that was said to it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

PROBE_INTERVAL = 10.0
"""Seconds after which a probe that has not come back is taken for lost."""


class Hearing:
    """Knows up to when everything that was said to the manager has been heard.

    Silence only counts when it is certain: a worker's heartbeat may stand in a long queue, or the machine
    may have slept. So before anyone is judged by a time limit, the manager sends a message to itself, and
    judges by what it has heard when that comes back.

    Args:
        name: tells the reign's own probes from others'.
        send: sends a probe.
    """

    def __init__(self, name: str, send: Callable[[str], None]) -> None:
        self.until = -inf
        self._name = name
        self._send = send
        self._sent: dict[str, float] = {}
        self._next = -inf
        self._count = 0

    def ask(self, now: float) -> float:
        """Send a probe, unless one is under way; return when to ask again."""
        if now >= self._next:
            self._count += 1
            token = f"{self._name}.{self._count}"
            self._sent[token] = now
            self._next = now + PROBE_INTERVAL
            self._send(token)
        return self._next

    def came(self, token: str) -> bool:
        """Take in a probe that came back; tell whether it is one of ours."""
        sent = self._sent.pop(token, None)
        if sent is not None:
            self.until = max(self.until, sent)
            self._sent = {other: at for other, at in self._sent.items() if at > sent}
            if not self._sent:
                self._next = -inf
        return sent is not None
