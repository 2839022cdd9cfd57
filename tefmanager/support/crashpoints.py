"""Named places at which a test can let the process die, as if by ``kill -9``.

The environment variable ``TEF_MANAGER_CRASH_AT`` names a place and how many times it is passed before the
process dies: with ``turn.committed:2`` it dies the third time. Nothing but tests may set it.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

VARIABLE = "TEF_MANAGER_CRASH_AT"


class CrashPoint(StrEnum):
    """Each step between two external effects, in the order in which a task passes them."""

    LEADERSHIP_GAINED = "leadership.begun"
    """We hold the lock and the epoch is written; no row has been read."""
    LEADERSHIP_LOADED = "leadership.loaded"
    """The rows have been read; nothing is reconciled with Etcd, nothing consumed."""
    LEADERSHIP_CONSUMING = "leadership.consuming"
    """The leadership has been given its first message."""
    LEADERSHIP_RECONCILED = "leadership.reconciled"
    """Etcd has been compared with the rows; nothing has been done about the differences."""
    TURN_APPLIED = "turn.applied"
    """Events have been taken in; nothing is committed."""
    TURN_COMMITTED = "turn.committed"
    """The rows are written; no effect has begun, nothing is acknowledged."""
    TURN_CARRIED_OUT = "turn.carried-out"
    """Effects have begun; nothing is acknowledged."""
    TURN_ACKNOWLEDGED = "turn.acknowledged"
    """Everything in the turn is done."""
    RESERVING = "reserve.asked"
    """A reservation is about to be requested."""
    RESERVED = "reserve.answered"
    """Etcd has granted or refused a reservation; no row says so."""
    PUBLISHING = "dispatch.asked"
    """The row says dispatched; nothing has been sent."""
    PUBLISHED = "dispatch.answered"
    """The broker has confirmed a dispatch; no turn knows it."""
    RELEASING = "release.asked"
    """The task is finished or taken back; its references are still held."""
    RELEASED = "release.answered"
    """The references are given back; no turn knows it."""
    DEAD_LETTERED = "dead-letter.answered"
    """A dead task's copy is in the dead queue; its row still waits."""
    REJECTED = "reject.answered"
    """A bad message is in the rejected queue, but not acknowledged."""
    ASKED = "question.written"
    """Dead tasks are settled or taken in again, as a message asks; it is not acknowledged."""
    STOPPING = "stop.consumer-stopped"
    """The manager is stopping: it consumes nothing any more, everything else is under way."""
    LEADERSHIP_ENDING = "leadership.ending"
    """Everything is handed over, and we still hold the lock."""


def _armed(setting: str) -> tuple[str, int]:
    name, _, passes = setting.partition(":")
    return name, int(passes or 0)


_name, _passes = _armed(os.environ.get(VARIABLE, ""))


def reach(point: CrashPoint) -> None:
    """Die here if a test wants it."""
    global _passes
    if point == _name:
        if _passes == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        _passes -= 1
