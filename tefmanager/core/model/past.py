"""Pages of history: which finished tasks are wanted, and where a page ends."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from msgspec import Struct

from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.values import FinishedRow
from tefmanager.protocol.verdicts import Result


class Place(NamedTuple):
    """A place in history: a task's end (unix time) and its id. Newer tasks have higher places."""

    at: float
    id: int


NOW = Place(inf, 0)
"""The place after all tasks."""


class PastFilter(Struct, frozen=True):
    """Which finished tasks are wanted; None means any.

    Attributes:
        suite, task_type, worker, outcome, result: theirs. The worker is the one that completed the task, or
            that had its last attempt.
        guid: what their guids begin with.
        since, until: they ended at the first unix time or later, and before the second one.
    """

    suite: str | None = None
    task_type: str | None = None
    worker: str | None = None
    outcome: Outcome | None = None
    result: Result | None = None
    guid: str | None = None
    since: float = -inf
    until: float = inf


class PastPage(Struct, frozen=True):
    """A page of history.

    Attributes:
        tasks: newest first. Their rows have the attempt that completed them, or their last one.
        next: where the next page begins; None if there is none.
    """

    tasks: tuple[FinishedRow, ...]
    next: Place | None
