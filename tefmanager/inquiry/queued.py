"""Dead tasks one by one, and what else lies in their queue."""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from tefmanager.core.model.dead_copies import Stored, given_back
from tefmanager.inquiry.answers import AttemptInfo, TaskDetail, TaskInfo
from tefmanager.protocol.messages import guid_of

LARGEST = 1024 * 1024
"""Bytes of a message that are told."""

SHOWN = 200
"""Bytes that are told of a message that is no task's copy."""


class DeadDetail(Struct, frozen=True):
    """A dead task, with all its attempts and its message.

    Attributes:
        reason: why it is dead.
        message: as it came, as text; its beginning where it is very long.
        size: bytes of the message.
    """

    task: TaskInfo
    attempts: tuple[AttemptInfo, ...]
    reason: str
    message: str
    size: int


class Retried(Struct, frozen=True):
    """What came of sending dead tasks again.

    Attributes:
        retried: guids of those that wait again.
        left: those that were too many bytes for once: to be sent again as well.
    """

    retried: tuple[str, ...]
    left: tuple[str, ...]


class QueuedMessage(Struct, frozen=True):
    """A message in the dead queue that is no dead task's copy.

    Attributes:
        name: by which it can be dropped.
        guid: that it has, or None.
        what: what is known of it, for people.
        size: bytes.
        text: its beginning.
    """

    name: str
    guid: str | None
    what: str
    size: int
    text: str


class QueuedMessages(Struct, frozen=True):
    """Messages in the dead queue that are no copies; ``trouble``: why not all were looked at, or None."""

    messages: tuple[QueuedMessage, ...]
    trouble: str | None


def dead_detail(found: TaskDetail, stored: Stored) -> DeadDetail:
    """Describe a dead task, of which ``found`` is known beside its message."""
    text = stored.body[:LARGEST].decode("utf-8", "backslashreplace")
    return DeadDetail(found.task, found.attempts, given_back(found.task.attempts), text, len(stored.body))


def queued(body: bytes, guid: str | None, readable: bool) -> QueuedMessage:
    """Describe a message in the dead queue that is no copy, or one of a task that nobody knows."""
    named = guid_of(body)
    what = "a task that is not in history" if guid or named else "no task"
    text = body[:SHOWN].decode("utf-8", "backslashreplace")
    name = guid or f"message:{sha256(body).hexdigest()[:16]}"
    troubled = "" if readable else "; its headers can't be read"
    return QueuedMessage(name, guid or named, what + troubled, len(body), text)
