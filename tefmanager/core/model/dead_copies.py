"""The copies of dead tasks in the dead queue, and the stored messages of tasks."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Copy(StrEnum):
    """The state of a dead task's copy in the dead queue. None stands for no copy, and none to come."""

    DUE = "due"
    """The copy is not there and must be sent."""
    DOUBT = "doubt"
    """The copy may be there. Going through the queue shows whether it is."""
    THERE = "there"


class CopyRow(Struct, frozen=True):
    """A dead task whose copy must be sent, searched for or removed.

    Attributes:
        id, guid: of the task.
        attempts: how many attempts it had.
        copy: the state of its copy.
        settled: the task was submitted again or dropped, so its copy must go.
    """

    id: int
    guid: str
    attempts: int
    copy: Copy
    settled: bool


class Stored(Struct, frozen=True):
    """A task's stored message. ``properties``: its other properties, encoded; None if it has none."""

    body: bytes
    properties: bytes | None = None


class DeadMessage(Struct, frozen=True):
    """The message of a listed dead task; ``id`` and ``guid`` are the task's."""

    id: int
    guid: str
    message: Stored


def given_back(attempts: int) -> str:
    """Return, in words for people, why a task is dead."""
    return "given back once" if attempts == 1 else f"given back {attempts} times"
