"""What addresses turned out to be, as far as remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

REMEMBERED = 4096
"""Addresses of which it is remembered what they are."""

ABSENT = 1.0
"""Seconds for which it is remembered that there is no exchange of a name."""


class Place(Enum):
    """What an address turned out to be."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


class Places:
    """What addresses turned out to be: the ones used last.

    Args:
        seconds: reads a clock that never goes back.
        most: addresses that are remembered of each kind.
    """

    def __init__(self, seconds: Callable[[], float], most: int = REMEMBERED) -> None:
        self._seconds = seconds
        self._most = most
        self._places: OrderedDict[bytes, Place] = OrderedDict()
        self._absent: OrderedDict[bytes, float] = OrderedDict()

    def get(self, address: bytes) -> Place | None:
        """Return what an address is, or None where that is not known."""
        place = self._places.get(address)
        if place is not None:
            self._places.move_to_end(address)
        return place

    def put(self, address: bytes, place: Place) -> None:
        """Remember what an address is."""
        self._absent.pop(address, None)
        self._places[address] = place
        if len(self._places) > self._most:
            self._places.popitem(last=False)

    def forget(self, address: bytes) -> None:
        """An address is no more what it was."""
        self._places.pop(address, None)

    def lacks(self, address: bytes) -> bool:
        """Tell whether it was found a moment ago that no exchange has this name."""
        return self._seconds() < self._absent.get(address, 0.0)

    def absent(self, address: bytes) -> None:
        """No exchange has this name, for now."""
        self._absent[address] = self._seconds() + ABSENT
        self._absent.move_to_end(address)
        if len(self._absent) > self._most:
            self._absent.popitem(last=False)
