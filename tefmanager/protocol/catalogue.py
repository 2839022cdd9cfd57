"""The catalogue of logged events, which other programs watch, and how an event becomes exactly one line.

An event's text is its name and its fields, separated by ``|``, in the order given here. The texts up to
`MESSAGE_INVALID_JSON` are those of the manager that this one replaces.
"""

from __future__ import annotations

import re

from msgspec import Struct

LONGEST_FIELD = 2000
"""How many characters of a field are logged. A longer field is cut, which the line shows."""

UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f|\\"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # unseen, or turning the direction of what follows
    r"\ud800-\udfff]"
)
"""Characters that might end a field or a line, control a terminal, or hide something."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": "\\\\"}


def escape(value: object) -> str:
    """Return a field's text on one line, without ``|``, line breaks or invisible characters."""
    return one_line(cut(str(value)))


def cut(text: str, at_most: int = LONGEST_FIELD) -> str:
    """Return the part of a field's text that is logged, with the size of the whole."""
    if len(text) <= at_most:
        return text
    whole = _WHOLE.search(text, max(0, len(text) - _LONGEST_WHOLE))
    return f"{text[:at_most]}{whole[0] if whole else f'… ({len(text)} characters)'}"


_WHOLE = re.compile(r"… \([0-9]+ (?:bytes|characters)\)\Z")
_LONGEST_WHOLE = 40
"""What is at the end of a text that was cut already: it tells the size of the whole."""


def one_line(text: str) -> str:
    """Return a text with everything escaped that might end a field or a line, or hide something."""
    return UNSAFE.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def plain(number: float) -> str:
    """Return a number in as few digits as distinguish it from all others, such as ``7`` or ``0.5``."""
    return repr(float(number)).removesuffix(".0")


def readable(body: bytes) -> str:
    """Return a message's body as text for the log, whatever bytes it contains."""
    text = body[: LONGEST_FIELD * 4].decode("utf-8", "backslashreplace")
    return text if len(body) <= LONGEST_FIELD * 4 else f"{text}… ({len(body)} bytes)"


class LoggedEvent(Struct, frozen=True):
    """An event that happened. It is logged after the turn has committed."""

    type: EventType
    values: tuple[object, ...]
    told: tuple[object, ...] = ()

    @property
    def text(self) -> str:
        """The event's text in the log."""
        fields = "|".join([str(value) for value in self.values])
        # Nearly all lines have nothing to escape, and one search for that is much faster.
        if (
            fields.isprintable()
            and "\\" not in fields
            and fields.count("|") == len(self.values) - 1
            and len(fields) <= LONGEST_FIELD
        ):
            return f"{self.type.name}|{fields}"
        return "|".join((self.type.name, *(escape(value) for value in self.values)))

    def __str__(self) -> str:
        return self.text


def quoting(line: LoggedEvent, at_most: int) -> LoggedEvent:
    """Return a line with at most this many characters of the message that it concerns."""
    if _MESSAGE not in line.type.fields:
        return line
    at = line.type.fields.index(_MESSAGE)
    return LoggedEvent(
        line.type, (*line.values[:at], cut(str(line.values[at]), at_most), *line.values[at + 1 :])
    )


_MESSAGE = "message"
"""The field of an event that contains a received message, with any secrets in it."""


class EventType(Struct, frozen=True):
    """A kind of log line.

    Attributes:
        name: its first field or fields, literally.
        fields: the names of the other fields.
        level: ``debug``, ``info``, ``warn`` or ``error``.
        topic: the routing key under which it is also published; empty if it is not.
        told: the names of what is published beside the fields, and not logged.
    """

    name: str
    fields: tuple[str, ...] = ()
    level: str = "info"
    topic: str = ""
    told: tuple[str, ...] = ()

    def __call__(self, *values: object) -> LoggedEvent:
        """Return the line for these fields, and then for what is only published."""
        if len(values) != len(self.fields) + len(self.told):
            raise TypeError(f"{self.name} takes {self.fields + self.told}, got {len(values)} values")
        logged = len(self.fields)
        return LoggedEvent(self, values[:logged], values[logged:])


_ATTEMPT = ("task_type", "guid", "worker", "attempt")

STATE_CHANGE = EventType("STATE_CHANGE", ("old", "new"), topic="manager.state")
DISPATCH = EventType("DISPATCH", ("task_type", "guid", "worker"), topic="task.dispatched")
DISPATCH_FAILED = EventType("DISPATCH_FAILED", ("task_type", "guid", "worker", "reason"), "warn")
WORKER_OFFLINE = EventType("CONTROL_SUCCESS|WORKER_OFFLINE", ("worker",), topic="worker.offline")
MISSING_EXCHANGE_NAME = EventType("CONTROL_FAILED|PARSE_JSON|MISSING_EXCHANGE_NAME", ("worker",), "warn")
MISSING_NAME = EventType("CONTROL_WARN|PARSE_JSON|MISSING_NAME", ("exchange",), "warn")
MISSING_STATUS = EventType("CONTROL_FAILED|PARSE_JSON|MISSING_STATUS", ("worker",), "warn")
NO_DATA = EventType("INVALID_JSON|NO_DATA", ("message",), "warn")
INVALID_STATE = EventType("INVALID_JSON|INVALID_STATE", ("state", "message"), "warn")
MESSAGE_INVALID_JSON = EventType("MESSAGE_ERROR|INVALID_JSON", ("reason", "message"), "warn")

UNKNOWN_TYPE = EventType("MESSAGE_ERROR|UNKNOWN_TYPE", ("type", "message"), "warn")
INVALID_DATA = EventType("INVALID_JSON|INVALID_DATA", ("reason", "message"), "warn")
MISSING_WORKER_TYPE = EventType("CONTROL_FAILED|PARSE_JSON|MISSING_WORKER_TYPE", ("worker",), "warn")
INVALID_FIELD = EventType("CONTROL_FAILED|PARSE_JSON|INVALID_FIELD", ("worker", "reason"), "warn")
UNKNOWN_STATUS = EventType("CONTROL_FAILED|UNKNOWN_STATUS", ("worker", "status"), "warn")

TASK_ACCEPTED = EventType(
    "TASK_ACCEPTED", ("task_type", "guid", "priority", "suite"), topic="task.accepted"
)
TASK_CANNOT_RUN = EventType("TASK_CANNOT_RUN", ("task_type", "guid", "reason"), "warn")
TASK_DUPLICATE = EventType("TASK_DUPLICATE", ("task_type", "guid", "state"), "warn")
TASK_REJECTED = EventType("TASK_REJECTED", ("reason", "message"), "warn")
TASK_WORKING = EventType("TASK_WORKING", _ATTEMPT, topic="task.working")
TASK_COMPLETED = EventType(
    "TASK_COMPLETED", (*_ATTEMPT, "result", "seconds"), topic="task.completed", told=("message",)
)
RESULT_FAULTY = EventType("RESULT_FAULTY", ("worker", "guid", "fault"), "warn")
TASK_RELEASED = EventType("TASK_RELEASED", (*_ATTEMPT, "reason"), "warn", "task.released")
TASK_REGAINED = EventType("TASK_REGAINED", _ATTEMPT, topic="task.regained")
TASK_STOPPED = EventType("TASK_STOPPED", ("task_type", "guid", "suite"), topic="task.stopped")
TASK_DEAD = EventType("TASK_DEAD", ("task_type", "guid", "attempts"), "error", "task.dead")
DEAD_NOT_QUEUED = EventType("DEAD_NOT_QUEUED", ("guid", "reason"), "warn")
DEAD_SETTLED = EventType("DEAD_SETTLED", ("guid",))
DISPATCH_TIMEOUT = EventType("DISPATCH_TIMEOUT", _ATTEMPT, "warn")
QUEUE_DESERTED = EventType("QUEUE_DESERTED", ("worker", "worker_type", "address"), "warn")
DISPATCH_UNCONFIRMED = EventType("DISPATCH_UNCONFIRMED", _ATTEMPT, "warn")
DISPATCH_UNCERTAIN = EventType("DISPATCH_UNCERTAIN", _ATTEMPT, "warn")
COMPLETION_IGNORED = EventType("COMPLETION_IGNORED", ("worker", "guid", "reason"), "warn")

WORKER_REGISTERED = EventType(
    "WORKER_REGISTERED", ("worker", "worker_type", "exchange"), topic="worker.registered"
)
WORKER_UPDATED = EventType("WORKER_UPDATED", ("worker", "worker_type", "exchange"), topic="worker.updated")
WORKER_MISSING = EventType("WORKER_MISSING", ("worker", "worker_type"), "warn", "worker.missing")
WORKER_STALLED = EventType("WORKER_STALLED", ("worker", "worker_type", "guid"), "warn", "worker.stalled")
WORKER_BACK = EventType("WORKER_BACK", ("worker", "worker_type", "was"), topic="worker.back")
WORKER_FORGOTTEN = EventType("WORKER_FORGOTTEN", ("worker", "worker_type"), topic="worker.forgotten")

SUITE_PAUSED = EventType("SUITE_PAUSED", ("suite", "waiting"), topic="suite.paused")
SUITE_READIED = EventType("SUITE_READIED", ("suite", "waiting"), topic="suite.readied")
SUITE_STOPPED = EventType("SUITE_STOPPED", ("suite", "stopped"), topic="suite.stopped")
SUITE_FINISHED = EventType(
    "SUITE_FINISHED",
    ("suite", "completed", "stopped", "dead", "passed", "failed", "error", "unknown"),
    topic="suite.finished",
)

RESOURCE_WAIT = EventType("RESOURCE_WAIT", ("task_type", "guid", "resource"))
RESOURCE_UNLIMITED = EventType("RESOURCE_UNLIMITED", ("task_type", "guid", "reason"), "warn")
RESOURCE_INVALID = EventType("RESOURCE_INVALID", ("resource", "fault"), "warn")
RESERVATION_TAKEN = EventType("RESERVATION_TAKEN", ("task_type", "guid", "worker", "attempt", "resources"))
RESERVATION_GIVEN_BACK = EventType("RESERVATION_GIVEN_BACK", ("attempt", "resources"), "warn")
RESERVATION_FAILED = EventType("RESERVATION_FAILED", ("task_type", "guid", "attempt", "reason"), "warn")
RESERVATION_KEPT = EventType("RESERVATION_KEPT", ("attempt", "resources", "reason"), "warn")

WAITING_FOR = EventType("WAITING_FOR", ("what", "seconds", "meaning"), "warn")
WAITED_FOR = EventType("WAITED_FOR", ("what", "seconds"))
LEADERSHIP_GAINED = EventType("LEADERSHIP_GAINED", ("epoch", "tasks", "workers"))
LEADERSHIP_LOST = EventType("LEADERSHIP_LOST", ("epoch", "reason"), "error")
RESOURCES_READ = EventType("RESOURCES_READ", ("resources",))
RESOURCES_REPLACED = EventType("RESOURCES_REPLACED", ("reason",), "warn")
RESOURCES_IN_BOTH_APIS = EventType("RESOURCES_IN_BOTH_APIS", ("keys", "used", "ignored"), "warn")
RESOURCES_LOST = EventType("RESOURCES_LOST", ("reason",), "warn")
ETCD_TAKEN = EventType("ETCD_TAKEN", ("keys", "by", "theirs", "ours"), "error")
ETCD_UNGUARDED = EventType("ETCD_UNGUARDED", ("keys", "reason"), "warn")
BROKER_CONNECTED = EventType("BROKER_CONNECTED", ("connection", "broker"))
BROKER_LOST = EventType("BROKER_LOST", ("connection", "reason"), "warn")
BROKER_WAITING = EventType("BROKER_WAITING", ("connection", "reason"), "warn")
BROKER_BLOCKED = EventType("BROKER_BLOCKED", ("connection", "reason"), "warn")
BROKER_UNBLOCKED = EventType("BROKER_UNBLOCKED", ("connection", "broker"))
CHANNEL_CLOSED = EventType("CHANNEL_CLOSED", ("connection", "reason"), "warn")
DELIVERY_LIMIT_NEAR = EventType("DELIVERY_LIMIT_NEAR", ("given_back", "message"), "error")
DELIVERIES_LOST = EventType("DELIVERIES_LOST", ("reason",), "warn")
QUESTION_FAILED = EventType("QUESTION_FAILED", ("reason",), "error")
REPLY_FAILED = EventType("REPLY_FAILED", ("reply_to", "outcome"), "warn")
HISTORY_REMOVED = EventType("HISTORY_REMOVED", ("tasks",))
HTTP_TOKEN_WRONG = EventType("HTTP_TOKEN_WRONG", ("peer", "times"), "warn")
HTTP_LISTENING = EventType("HTTP_LISTENING", ("address",))
HTTP_UNAVAILABLE = EventType("HTTP_UNAVAILABLE", ("address", "reason"), "warn")
CONFIG_WARNING = EventType("CONFIG_WARNING", ("reason",), "warn")
RELOADED = EventType("RELOADED", ("changed", "pending"))
RELOAD_FAILED = EventType("RELOAD_FAILED", ("reason",), "error")
LOG_LOST = EventType("LOG_LOST", ("lines", "reason"), "error")
LOG_NOT_REOPENED = EventType("LOG_NOT_REOPENED", ("file", "reason"), "warn")

CATALOGUE: tuple[EventType, ...] = tuple(
    value for value in globals().values() if isinstance(value, EventType)
)
"""All events."""
