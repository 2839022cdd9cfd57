"""Describes single dead tasks, and other messages in the dead queue."""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from tefmanager.core.model.dead_copies import Stored, given_back
from tefmanager.inquiry.answers import AttemptInfo, TaskDetail, TaskInfo
from tefmanager.protocol.messages import guid_of

LARGEST = 1024 * 1024
"""How many bytes of a message are shown."""

SHOWN = 200
"""How many bytes are shown of a message that is no task's copy."""


class DeadDetail(Struct, frozen=True):
    """A dead task, with all its attempts and its message.

    Attributes:
        reason: why it is dead.
        message: the original message as text; its beginning if it is very long.
        size: the message's size in bytes.
    """

    task: TaskInfo
    attempts: tuple[AttemptInfo, ...]
    reason: str
    message: str
    size: int


class Retried(Struct, frozen=True):
    """The result of submitting dead tasks again.

    Attributes:
        retried: guids of those that wait again.
        left: guids of those that were too large for one request; they can be retried in another one.
    """

    retried: tuple[str, ...]
    left: tuple[str, ...]


class QueuedMessage(Struct, frozen=True):
    """A message in the dead queue that is no dead task's copy.

    Attributes:
        name: the name by which it can be dropped.
        guid: the guid in it, or None.
        what: what is known about it, for people.
        size: its size in bytes.
        text: its beginning.
    """

    name: str
    guid: str | None
    what: str
    size: int
    text: str


class QueuedMessages(Struct, frozen=True):
    """Messages in the dead queue that are no copies; ``trouble``: why some were not looked at, or None."""

    messages: tuple[QueuedMessage, ...]
    trouble: str | None


def dead_detail(found: TaskDetail, stored: Stored) -> DeadDetail:
    """Describe a dead task; ``found`` contains everything except its message."""
    text = stored.body[:LARGEST].decode("utf-8", "backslashreplace")
    return DeadDetail(found.task, found.attempts, given_back(found.task.attempts), text, len(stored.body))


def queued(body: bytes, guid: str | None, readable: bool) -> QueuedMessage:
    """Describe a message in the dead queue that is no copy, or that belongs to an unknown task."""
    named = guid_of(body)
    what = "a task that is not in history" if guid or named else "no task"
    text = body[:SHOWN].decode("utf-8", "backslashreplace")
    name = guid or f"message:{sha256(body).hexdigest()[:16]}"
    troubled = "" if readable else "; its headers can't be read"
    return QueuedMessage(name, guid or named, what + troubled, len(body), text)
