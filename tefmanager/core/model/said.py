"""What a worker has said of an attempt. Frozen: each of its words makes another value, by a method here."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from tefmanager.core.model.values import Doubt


class Said(Struct, frozen=True):
    """What was heard of an attempt from its worker, and what is doubted for that.

    Attributes:
        first_hand: the worker has said *working* to this leadership, in a message that was not told before.
        beats: it has said so more than once: what says otherwise then is no older.
        quiet: monotonic time at which it said that it is free, against what we hold; or None.
        doubt: what a message that was told again may mean, if nothing contradicts it; or None. The end of
            an attempt of which nothing was heard first-hand is *done*, and makes it *quiet*.
        seen_free: monotonic time at which it said that it is free, having had time enough to begin; or
            None. Only of an attempt that is not live.
    """

    first_hand: bool = False
    beats: bool = False
    quiet: float | None = None
    doubt: Doubt | None = None
    seen_free: float | None = None

    @classmethod
    def recorded(cls, doubt: Doubt | None, at: float) -> Said:
        """Return what the row of an attempt in flight tells, as a leadership begins."""
        return cls(first_hand=doubt is Doubt.STALE, quiet=at if doubt is Doubt.DONE else None, doubt=doubt)

    def begun(self) -> Said:
        """It says *working* for the first time."""
        return Said(first_hand=True, beats=self.beats)

    def working(self, *, first_hand: bool) -> Said:
        """It says *working* again: nothing is in doubt any more."""
        return Said(first_hand=self.first_hand or first_hand, beats=True)

    def beating(self) -> Said:
        """It goes on with what was taken from it."""
        return replace(self, beats=True)

    def came_back(self) -> Said:
        """Another worker has its name now, or it has begun anew: it has to say again what it does."""
        return Said(beats=self.beats)

    def free(self, at: float) -> Said:
        """It says that it is free."""
        return replace(self, quiet=at)

    def done_again(self, at: float) -> Said:
        """An end is told that was told before: what was heard first-hand only a new word refutes."""
        if self.first_hand:
            return replace(self, doubt=Doubt.STALE)
        return replace(self, doubt=Doubt.DONE, quiet=at)

    def left_again(self) -> Said:
        """A goodbye is told that was told before. An end that is believed soon stays so."""
        return self if self.doubt is Doubt.DONE else replace(self, doubt=Doubt.LEFT)

    def settled(self) -> Said:
        """Nothing is in doubt any more."""
        return replace(self, doubt=None)

    def free_at_last(self, at: float | None) -> Said:
        """It has had time enough to begin, and says that it is free; None: that does not count any more."""
        return replace(self, seen_free=at)

    def resumed(self, at: float) -> Said:
        """Messages come again: what it said counts from now."""
        return self if self.quiet is None else replace(self, quiet=at)


UNHEARD = Said()
"""Nothing was said of an attempt yet."""
