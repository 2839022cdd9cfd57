"""Pure: when a watch has to be taken for dead, though nothing has ended it."""

from __future__ import annotations


class DeadWatch:
    """Compares what full reads find with what the watch has told."""

    def __init__(self) -> None:
        self._behind: tuple[int, float] | None = None

    def suspect(self, behind: bool, news: int, now: float, patience: float) -> bool:
        """A read found something new or not, after so many news; tell whether the watch is dead.

        ``patience``: seconds a watch may be late.
        """
        if self._behind is None or self._behind[0] != news:
            self._behind = (news, now) if behind else None
        elif now - self._behind[1] >= patience:
            self._behind = None
            return True
        return False
