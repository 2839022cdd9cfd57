"""The ways in which attempts and tasks end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from tefmanager.core.model.dead_copies import Copy
from tefmanager.protocol.verdicts import Result


class AttemptEnd(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    UNDELIVERED = "undelivered"
    UNCONFIRMED = "unconfirmed"
    """The broker did not say within the dispatch timeout whether it had the message."""
    DISPATCH_TIMEOUT = "dispatch_timeout"
    GIVEN_UP = "given_up"
    OFFLINE = "offline"
    MISSING = "missing"
    STALLED = "stalled"
    SUPERSEDED = "superseded"
    """Another worker completed the task first."""
    ENVIRONMENT = "environment"
    """Its worker says that its own environment is to blame."""


class Outcome(StrEnum):
    """How a task ended. After that it is in history."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    DEAD = "dead"


Ending: TypeAlias = Outcome | Result
"""How a task ended: its outcome or, if it was completed, its result."""

SuiteEnds: TypeAlias = Mapping[str, Mapping[Ending, int]]
"""How many tasks of a suite ended in each way; ways with no task may be left out."""


class Finish(NamedTuple):
    """The end of a task.

    Attributes:
        outcome: how it ended.
        at: unix time.
        attempts: number of attempts.
        copy: the state of its copy in the dead queue.
        result, message: what its worker said about it, if it was completed.
        attempt, worker: the attempt that completed it, if it has a number, and that attempt's worker. If
            the worker is None, the store takes both from the task's last attempt.
    """

    outcome: Outcome
    at: float
    attempts: int = 0
    copy: Copy | None = None
    result: Result | None = None
    message: str | None = None
    attempt: int | None = None
    worker: str | None = None
