"""A priority queue whose items may move while they are in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator
from itertools import count
from math import inf
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)


_FIRST = (-inf,)
"""A key before all others."""


class LazyQueue(Generic[T]):
    """Puts the item with the least key first; ``key(item)`` may change at any time.

    An item that moves *forward* must be offered again. One that moves backward is noticed when it comes up.
    An item whose key is None leaves the queue until it is offered again.
    """

    def __init__(self, key: Callable[[T], Any]) -> None:
        self._key = key
        self._entries: list[tuple[Any, int, T]] = []
        self._places: dict[T, Any] = {}
        self._ties = count()

    def offer(self, item: T) -> bool:
        """Add an item, or move it forward; return whether it may be the first now."""
        key = self._key(item)
        if key is None:
            return False
        rank = self._places.get(item)
        if rank is not None and rank <= key:
            return False
        self._push(key, item)
        return self._entries[0][2] is item

    def expect(self, item: T) -> None:
        """Add an item at the front; its real place is found when it comes up."""
        if self._places.get(item) is not _FIRST:
            self._push(_FIRST, item)

    def discard(self, item: T) -> None:
        """Remove an item until it is offered again."""
        self._places.pop(item, None)

    def __contains__(self, item: T) -> bool:
        """Tell whether an item is in the queue; its key may have become None since."""
        return item in self._places

    def __iter__(self) -> Iterator[T]:
        """Iterate over all items in no particular order; keys may have become None since."""
        return iter(self._places)

    def top(self) -> T | None:
        """Return the item to look at next; only `first` finds out whether it is the first."""
        entries, places = self._entries, self._places
        while entries:
            key, _, item = entries[0]
            if places.get(item) is key:
                return item
            heapq.heappop(entries)
        return None

    def first(self) -> tuple[Any, T] | None:
        """Return the least key and its item without removing it, or None if the queue is empty."""
        entries, places = self._entries, self._places
        while entries:
            key, _, item = entries[0]
            if places.get(item) is key:
                now = self._key(item)
                if now == key:
                    return now, item
                del places[item]
                if now is not None:
                    places[item] = now
                    heapq.heapreplace(entries, (now, next(self._ties), item))
                    if entries[0][2] is item:
                        return now, item
                    continue
            heapq.heappop(entries)
        return None

    def _push(self, key: Any, item: T) -> None:
        self._places[item] = key
        heapq.heappush(self._entries, (key, next(self._ties), item))
        if len(self._entries) > 2 * len(self._places) + 8:
            self._forget_old_places()

    def _forget_old_places(self) -> None:
        self._entries[:] = [(key, next(self._ties), item) for item, key in self._places.items()]
        heapq.heapify(self._entries)
