"""Pure: which lock keys a count does not include, after a crash in the middle of a v2 operation.

With the v2 API, a lock key is written first, with the value `INTENT`; then the count is raised; then the
key's value becomes the count. To give a reference back, the value becomes `INTENT` again, the count is
lowered, and the key is deleted. So a key with another value is counted, and a key with `INTENT` may or may
not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INTENT = "0"
"""The value of a lock key just before it is counted, and again before its count is lowered."""


@dataclass(frozen=True, slots=True)
class LockKey:
    """A lock key of any program, with the indexes at which it was created and last changed."""

    field: str
    value: str
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class State:
    """The count of a resource, the index at which it was set (0: there is none), and all lock keys."""

    count: int
    modified: int
    keys: Sequence[LockKey]


def uncounted(state: State) -> list[LockKey]:
    """Return the lock keys that the count does not include.

    A key whose intent is newer than the last change of the count is certain: the count has not changed
    since. Of the others, the oldest are counted, as many as the count leaves room for. So all programs come
    to answers that fit together, whether they ask before or after others have settled their keys.
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
