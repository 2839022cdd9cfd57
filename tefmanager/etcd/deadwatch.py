"""Pure: notices a watch that is dead although its connection stands."""

from __future__ import annotations


class DeadWatch:
    """Compares what full reads find with what the watch has reported."""

    def __init__(self) -> None:
        self._behind: tuple[int, float] | None = None

    def suspect(self, behind: bool, news: int, now: float, patience: float) -> bool:
        """Take in a read, and whether it was ahead of the watch; return whether the watch is dead.

        ``news``: how many changes the watch has reported so far. ``patience``: seconds that the watch may
        lag behind.
        """
        if self._behind is None or self._behind[0] != news:
            self._behind = (news, now) if behind else None
        elif now - self._behind[1] >= patience:
            self._behind = None
            return True
        return False
