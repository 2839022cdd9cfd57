"""What a worker has said about an attempt. Frozen: each message makes a new value, by a method here."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from tefmanager.core.model.values import Doubt
from tefmanager.protocol.verdicts import NO_VERDICT, Verdict


class Said(Struct, frozen=True):
    """What is known about an attempt from its worker's messages, and which doubts they leave.

    Attributes:
        first_hand: the worker has said *working* to this leadership, in a message that was not redelivered.
        beats: it has said so more than once, so a message that says otherwise afterwards is not older.
        quiet: monotonic time at which it said that it is free although it holds the task; or None.
        doubt: what a redelivered message may mean if nothing contradicts it; or None. If nothing was heard
            first-hand of an attempt, a redelivered end of it is *done*, and makes it *quiet*.
        seen_free: monotonic time at which it said that it is free after it had enough time to begin; or
            None. Used only for attempts that are not live.
        verdict: what it says about the task that it ends.
        progress: its progress in its own words, or None.
    """

    first_hand: bool = False
    beats: bool = False
    quiet: float | None = None
    doubt: Doubt | None = None
    seen_free: float | None = None
    verdict: Verdict = NO_VERDICT
    progress: str | None = None

    @classmethod
    def recorded(cls, doubt: Doubt | None, verdict: Verdict | None, at: float) -> Said:
        """Return what the row of an attempt in flight says, at the beginning of a leadership."""
        return cls(
            first_hand=doubt is Doubt.STALE,
            quiet=at if doubt is Doubt.DONE else None,
            doubt=doubt,
            verdict=verdict or NO_VERDICT,
        )

    @property
    def doubtful(self) -> Verdict | None:
        """The verdict that must be kept because nobody knows yet which attempt it is about, or None."""
        return None if self.doubt is None or self.verdict == NO_VERDICT else self.verdict

    def begun(self, progress: str | None = None) -> Said:
        """It says *working* for the first time."""
        return Said(first_hand=True, beats=self.beats, progress=progress)

    def working(self, progress: str | None = None, *, first_hand: bool) -> Said:
        """It says *working* again: nothing is in doubt any more."""
        return Said(self.first_hand or first_hand, beats=True, progress=progress or self.progress)

    def judged(self, verdict: Verdict) -> Said:
        """The worker says how its task ended; if it says nothing about that, its earlier verdict stays."""
        return self if verdict == NO_VERDICT else replace(self, verdict=verdict)

    def ended(self, verdict: Verdict) -> Said:
        """The worker says that its task has ended. An earlier verdict was about another task."""
        return replace(self, verdict=verdict)

    def beating(self) -> Said:
        """The worker continues a task that was taken from it."""
        return replace(self, beats=True)

    def came_back(self) -> Said:
        """Another worker has this name now, or the worker has restarted: it must say again what it does."""
        return Said(beats=self.beats)

    def free(self, at: float) -> Said:
        """The worker says that it is free."""
        return replace(self, quiet=at)

    def done_again(self, at: float) -> Said:
        """An end is redelivered: only a new message can refute what was heard first-hand."""
        if self.first_hand:
            return replace(self, doubt=Doubt.STALE)
        return replace(self, doubt=Doubt.DONE, quiet=at)

    def left_again(self) -> Said:
        """A goodbye is redelivered. If an end is already believed, it stays so."""
        return self if self.doubt is Doubt.DONE else replace(self, doubt=Doubt.LEFT)

    def settled(self) -> Said:
        """Nothing is in doubt any more."""
        return replace(self, doubt=None)

    def free_at_last(self, at: float | None) -> Said:
        """The worker says that it is free after it had enough time to begin; None: that counts no more."""
        return replace(self, seen_free=at)

    def resumed(self, at: float) -> Said:
        """Messages arrive again: what the worker said counts from now on."""
        return self if self.quiet is None else replace(self, quiet=at)


UNHEARD = Said()
"""Nothing was said about the attempt yet."""
