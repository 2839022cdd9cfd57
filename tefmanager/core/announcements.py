"""What is published of what happens, for whoever listens: the log's events, as JSON."""

from __future__ import annotations

import msgspec

from tefmanager.core.effects import Log


def announcement(log: Log, time: float) -> bytes:
    """Return the message for an event that has a topic. ``time`` is the unix time to put into it."""
    line = log.line
    found: dict[str, object] = {"event": line.event.topic, "time": time}
    for name, value in zip(line.event.fields, line.values, strict=True):
        found[name] = value if isinstance(value, int) else str(value)
    if log.about is not None:
        found["suite"] = log.about.suite
        if "priority" in found:
            found["priority"] = log.about.priority
    return msgspec.json.encode(found)
