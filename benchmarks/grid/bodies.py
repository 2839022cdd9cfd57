"""The messages that the simulated grid sends, as bytes. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from tefmanager.amqp.codec import short_text
from tefmanager.amqp.frames import publish_frames, route

TYPE = "bench"
"""The type of all tasks and workers."""

_START = b'{"guid":"b-'
_DIGITS = slice(len(_START), len(_START) + 8)

# The properties of the Ruby programs' messages, flags first: content type, delivery mode 2, priority 0.
_FLAGS = 1 << 15 | 1 << 12 | 1 << 11
PROPERTIES = struct.pack(">H", _FLAGS) + short_text("application/octet-stream") + b"\x02\x00"


def task(number: int, resources: Sequence[str] = (), suite: str | None = None) -> bytes:
    """Return a task's message; its number is where `number_of` finds it at once."""
    fields = {
        "type": "task",
        "task_type": TYPE,
        "resources": list(resources),
        "suite_guid": suite,
        "task_data": {"command": "true", "arguments": ["ä", number]},
    }
    rest = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return b'%b%08d",%b' % (_START, number, rest[1:].encode())


def number_of(body: bytes) -> int:
    """Return the number of the task in a message."""
    return int(body[_DIGITS])


def status(name: str, address: str, says: str, worker_type: str = TYPE) -> bytes:
    """Return a worker's message, like those of the Ruby programs."""
    fields = {
        "type": "worker_status",
        "name": name,
        "worker_type": worker_type,
        "exchange_name": address,
        "status": says,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def to_queue(channel: int, queue: str, body: bytes) -> bytes:
    """Return the frames that publish a persistent message to a queue."""
    return publish_frames(channel, route(b"", queue.encode()), PROPERTIES, body, 131072)


def names_for(number: int, each: int, names: Sequence[str]) -> list[str]:
    """Return the resources of a task, ``each`` in number; successive tasks use all of them equally."""
    return [names[(number * each + step) % len(names)] for step in range(each)]
