"""Named places at which a test may let the process die, as ``kill -9`` would.

The environment variable ``TEF_MANAGER_CRASH_AT`` names one, and how many times it is passed before that:
``turn.committed:2`` dies when it is reached for the third time. Nothing else may set it.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

VARIABLE = "TEF_MANAGER_CRASH_AT"


class CrashPoint(StrEnum):
    """Each step between two effects on the outside, in the order in which a task passes them."""

    LEADERSHIP_GAINED = "leadership.begun"
    """The lock is ours and the epoch is written; no row was read."""
    LEADERSHIP_LOADED = "leadership.loaded"
    """The rows were read; nothing was reconciled with Etcd, nothing consumed."""
    LEADERSHIP_CONSUMING = "leadership.consuming"
    """The first message was handed to the leadership."""
    LEADERSHIP_RECONCILED = "leadership.reconciled"
    """What Etcd holds was compared with the rows; nothing was done about it."""
    TURN_APPLIED = "turn.applied"
    """Events were taken in; nothing is committed."""
    TURN_COMMITTED = "turn.committed"
    """The rows are written; no effect was begun, nothing acknowledged."""
    TURN_CARRIED_OUT = "turn.carried-out"
    """Effects were begun; nothing is acknowledged."""
    TURN_ACKNOWLEDGED = "turn.acknowledged"
    """All of a turn is done."""
    RESERVING = "reserve.asked"
    """A reservation is about to be asked for."""
    RESERVED = "reserve.answered"
    """Etcd has reserved or refused; no row says so."""
    PUBLISHING = "dispatch.asked"
    """The row says dispatched; nothing was sent."""
    PUBLISHED = "dispatch.answered"
    """The broker has confirmed a dispatch; no turn knows."""
    RELEASING = "release.asked"
    """The task is finished or taken back; its references are still held."""
    RELEASED = "release.answered"
    """They are given back; no turn knows."""
    DEAD_LETTERED = "dead-letter.answered"
    """A dead task is in the dead queue; its row still waits."""
    REJECTED = "reject.answered"
    """A bad message is in the queue of the rejected, and not acknowledged."""
    ASKED = "question.written"
    """Dead tasks are settled or taken in again, as a message asks; it is not acknowledged."""
    STOPPING = "stop.consumer-stopped"
    """Told to stop: nothing is consumed any more, all else is under way."""
    LEADERSHIP_ENDING = "leadership.ending"
    """All is handed over, the lock is still ours."""


def _armed(setting: str) -> tuple[str, int]:
    name, _, passes = setting.partition(":")
    return name, int(passes or 0)


_name, _passes = _armed(os.environ.get(VARIABLE, ""))


def reach(point: CrashPoint) -> None:
    """Die here, if that is what a test wants."""
    global _passes
    if point == _name:
        if _passes == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        _passes -= 1
