"""Which deliveries of a channel are not acknowledged yet, and how few frames acknowledge some of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

OVERHEAD = 256
"""Bytes that a delivery costs beside its body and headers, roughly."""


class AckTracker:
    """Deliveries by tag, which counts up from 1, with their sizes. Pure.

    Attributes:
        unacked: bytes in deliveries that are not acknowledged, with their overhead.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._last = 0
        self._low = 1  # every tag below it is acknowledged
        self.unacked = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, tag: int, size: int) -> None:
        """Take in a delivery of so many bytes."""
        size += OVERHEAD
        self._sizes[tag] = size
        self._last = tag
        self.unacked += size

    def ack(self, tags: Iterable[int]) -> list[tuple[int, bool]]:
        """Return the fewest acknowledgements, as pairs of tag and *multiple*, that settle the tags.

        A tag that was not delivered, or was acknowledged before, is left out: the broker would close
        the channel for it.
        """
        new = sorted(tag for tag in set(tags) if tag in self._sizes)
        for tag in new:
            self.unacked -= self._sizes.pop(tag)
        while self._low <= self._last and self._low not in self._sizes:
            self._low += 1
        done = bisect_left(new, self._low)
        acks = [(new[done - 1], done > 1)] if done else []
        return acks + [(tag, False) for tag in new[done:]]
