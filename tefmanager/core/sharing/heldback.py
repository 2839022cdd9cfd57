"""Holds back what a service refuses for a reason of its own, and retries it at growing intervals.

Nothing of this is in the database: the next leadership tries everything anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, ItemsView
from functools import partial
from itertools import count
from typing import Generic, TypeVar

from msgspec import Struct

from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
"""The first and the longest pause before something is tried again, in seconds. Each pause is twice the one
before."""

Key = TypeVar("Key", bound=Hashable)


class HeldBack(Struct, eq=False):
    """Why something is held back, and until when.

    Attributes:
        reason: a text for people, mostly in the words of the service that refused.
        since: unix time of the first refusal.
        until: monotonic time from which it may be tried again.
        pause: seconds from the last attempt until then.
        place: the name of the wait list for it; no resource can have this name.
        tried: it is being tried again, and the answer is not known yet.
    """

    reason: str
    since: float
    until: float
    pause: float
    place: str
    tried: bool = False


class HoldBacks(Generic[Key]):
    """All that is held back, by its key.

    Args:
        retry: called when something may be tried again; returns False if nobody needs it any more.
    """

    def __init__(self, timers: Timers, retry: Callable[[Key, HeldBack, Moment], bool]) -> None:
        self._timers = timers
        self._retry = retry
        self._held: dict[Key, HeldBack] = {}
        self._places: dict[str, HeldBack] = {}
        self._numbers = count()

    def __len__(self) -> int:
        """Return how many are held back."""
        return len(self._held)

    def get(self, key: Key) -> HeldBack | None:
        """Return why and until when a key is held back, or None."""
        return self._held.get(key)

    def items(self) -> ItemsView[Key, HeldBack]:
        """Return all keys that are held back, with the reasons."""
        return self._held.items()

    def at(self, place: str) -> HeldBack | None:
        """Return what is held back under a place's name, or None."""
        return self._places.get(place)

    def hold(self, key: Key, reason: str, now: Moment) -> bool:
        """Hold a key back; return whether the reason is new."""
        known = self._held.get(key)
        if known is None:
            entry = HeldBack(reason, now.wall, 0.0, FIRST_PAUSE / 2, f"\0{next(self._numbers)}")
            known = self._held[key] = self._places[entry.place] = entry
        elif now.monotonic < known.until and known.reason == reason and not known.tried:
            return False  # several attempts were under way at once
        news = known.until == 0.0 or known.reason != reason
        known.reason, known.tried = reason, False
        known.pause = min(known.pause * 2, LONGEST_PAUSE)
        self._wait(key, known, now)
        return news

    def tried(self, key: Key, now: Moment) -> None:
        """Note that a key is being tried again; the next attempt comes after another pause."""
        entry = self._held.get(key)
        if entry is not None:
            entry.tried = True
            self._wait(key, entry, now)

    def _wait(self, key: Key, entry: HeldBack, now: Moment) -> None:
        entry.until = now.monotonic + entry.pause
        self._timers.at(entry.until, partial(self._due, key, entry))

    def _due(self, key: Key, entry: HeldBack, now: Moment) -> None:
        if (
            self._held.get(key) is entry
            and now.monotonic >= entry.until
            and not self._retry(key, entry, now)
        ):
            self.drop(key)

    def drop(self, key: Key) -> HeldBack | None:
        """Stop holding a key back; return why it was, or None if it was not."""
        entry = self._held.pop(key, None)
        if entry is not None:
            del self._places[entry.place]
        return entry

    def clear(self) -> None:
        """Stop holding back all keys."""
        self._held.clear()
        self._places.clear()
