"""What the dead queue has of dead tasks, and what is kept of messages beside their bodies."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Copy(StrEnum):
    """What the dead queue has of a dead task, where that is not nothing for good."""

    DUE = "due"
    """It has none, and is to have one."""
    DOUBT = "doubt"
    """It may have one: somebody who looks through the queue finds out."""
    THERE = "there"


class CopyRow(Struct, frozen=True):
    """A dead task with whose copy something is to be done.

    Attributes:
        id, guid: of the task.
        attempts: how many it had.
        copy: what the dead queue has of it.
        settled: it was sent again or dropped, so that the queue is to have nothing of it.
    """

    id: int
    guid: str
    attempts: int
    copy: Copy
    settled: bool


class Stored(Struct, frozen=True):
    """A task's message. ``properties``: what else came with it, encoded; None where nothing did."""

    body: bytes
    properties: bytes | None = None


class DeadMessage(Struct, frozen=True):
    """The message of a dead task that is listed; ``id`` and ``guid`` are the task's."""

    id: int
    guid: str
    message: Stored


def given_back(attempts: int) -> str:
    """Return why a task is dead, for people."""
    return "given back once" if attempts == 1 else f"given back {attempts} times"
