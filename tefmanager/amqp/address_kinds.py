"""Remembers whether an address is a queue or an exchange."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

REMEMBERED = 4096
"""How many addresses are remembered."""

ABSENT = 1.0
"""Seconds for which it is remembered that an exchange does not exist."""


class AddressKind(Enum):
    """What an address is."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


class AddressKinds:
    """Remembers what the recently used addresses are.

    Args:
        seconds: reads a clock that never goes back.
        most: number of addresses of each kind that are remembered.
    """

    def __init__(self, seconds: Callable[[], float], most: int = REMEMBERED) -> None:
        self._seconds = seconds
        self._most = most
        self._kinds: OrderedDict[bytes, AddressKind] = OrderedDict()
        self._absent: OrderedDict[bytes, float] = OrderedDict()

    def get(self, address: bytes) -> AddressKind | None:
        """Return what an address is, or None if that is unknown."""
        kind = self._kinds.get(address)
        if kind is not None:
            self._kinds.move_to_end(address)
        return kind

    def put(self, address: bytes, kind: AddressKind) -> None:
        """Remember what an address is."""
        self._absent.pop(address, None)
        self._kinds[address] = kind
        if len(self._kinds) > self._most:
            self._kinds.popitem(last=False)

    def forget(self, address: bytes) -> None:
        """Forget what an address was: it is that no longer."""
        self._kinds.pop(address, None)

    def lacks(self, address: bytes) -> bool:
        """Tell whether an exchange of this name was found missing a moment ago."""
        return self._seconds() < self._absent.get(address, 0.0)

    def absent(self, address: bytes) -> None:
        """Remember for a moment that no exchange has this name."""
        self._absent[address] = self._seconds() + ABSENT
        self._absent.move_to_end(address)
        if len(self._absent) > self._most:
            self._absent.popitem(last=False)
