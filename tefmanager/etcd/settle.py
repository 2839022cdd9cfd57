"""Pure: which lock keys a count does not hold, after a crash in the middle of a v2 operation.

With the v2 API a lock key is written first, its value `INTENT`; then the count is raised; then the value
becomes the count. Giving back, the value becomes `INTENT` again, the count is lowered, the key deleted. So
a key with any other value is counted, and one with `INTENT` may be either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INTENT = "0"
"""The value of a lock key while it is being counted, or no longer being counted."""


@dataclass(frozen=True, slots=True)
class LockKey:
    """A lock key of any program, with the indexes at which it was made and last changed."""

    field: str
    value: str
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class State:
    """The count of a resource, the index at which it became so (0: there is none), and all lock keys."""

    count: int
    modified: int
    keys: Sequence[LockKey]


def uncounted(state: State) -> list[LockKey]:
    """Return the lock keys that the count does not hold.

    Whose intent came after the last change of the count is certain: nothing happened since. Of the others
    as many are counted as the count leaves room for, the older first; whoever asks, before or after others
    have settled theirs, all come to answers that fit together.
    """
    sure = [key for key in state.keys if _counted(key, state) is True]
    missing = [key for key in state.keys if _counted(key, state) is False]
    doubtful = sorted(
        (key for key in state.keys if _counted(key, state) is None),
        key=lambda key: (key.created, key.field),
    )
    return [*missing, *doubtful[max(0, state.count - len(sure)) :]]


def _counted(key: LockKey, state: State) -> bool | None:
    if key.value != INTENT:
        return True
    if state.modified > key.modified:
        return None
    taking = key.created == key.modified
    return not taking
