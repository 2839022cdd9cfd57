"""Tracks the unacknowledged deliveries of a channel, and acknowledges them in as few frames as possible."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

OVERHEAD = 256
"""Approximate bytes of memory that a delivery takes besides its body and headers."""


class AckTracker:
    """Unacknowledged deliveries by tag (counting up from 1), with their sizes. Pure.

    Attributes:
        unacked: bytes of unacknowledged deliveries, including their overhead.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._last = 0
        self._low = 1  # every tag below this one is acknowledged
        self.unacked = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, tag: int, size: int) -> None:
        """Add a delivery of ``size`` bytes."""
        size += OVERHEAD
        self._sizes[tag] = size
        self._last = tag
        self.unacked += size

    def ack(self, tags: Iterable[int]) -> list[tuple[int, bool]]:
        """Return the fewest acknowledgements, as pairs of tag and *multiple*, that cover the tags.

        Leaves out a tag that was never delivered or is already acknowledged, because the broker would close
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
