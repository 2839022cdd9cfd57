"""The log lines others watch: the one catalogue of events, and how an event becomes exactly one line.

An event's text is its name and its fields, separated by ``|``, in the order given here. Texts up to
`MESSAGE_INVALID_JSON` are those of the manager that this one replaces.
"""

from __future__ import annotations

import re

from msgspec import Struct

LONGEST_FIELD = 2000
"""Characters of a field that are logged; what is longer is cut and says so."""

UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f|\\"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # unseen, or turning the direction of what follows
    r"\ud800-\udfff]"
)
"""Characters that might end a field or a line, do something to a terminal, or hide something."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": "\\\\"}


def escape(value: object) -> str:
    """Return a field's text on one line: no ``|``, line break or unseen character can be in it."""
    return one_line(cut(str(value)))


def cut(text: str, at_most: int = LONGEST_FIELD) -> str:
    """Return as much of a field's text as is logged."""
    return text if len(text) <= at_most else f"{text[:at_most]}… ({len(text)} characters)"


def one_line(text: str) -> str:
    """Return a text with everything escaped that might end a field or a line, or hide something."""
    return UNSAFE.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def plain(number: float) -> str:
    """Return a number in as few digits as tell it from all others, such as ``7`` or ``0.5``."""
    return repr(float(number)).removesuffix(".0")


def readable(body: bytes) -> str:
    """Return a message's body as text to log, whatever its bytes are."""
    text = body[: LONGEST_FIELD * 4].decode("utf-8", "backslashreplace")
    return text if len(body) <= LONGEST_FIELD * 4 else f"{text}… ({len(body)} bytes)"


class Line(Struct, frozen=True):
    """One event that happened, to be logged once the turn has committed."""

    event: Event
    values: tuple[object, ...]

    @property
    def text(self) -> str:
        """The event's text, as it stands in the log."""
        fields = "|".join([str(value) for value in self.values])
        # Nearly all lines have nothing to escape; to see that at a glance takes a fraction of the time.
        if (
            fields.isprintable()
            and "\\" not in fields
            and fields.count("|") == len(self.values) - 1
            and len(fields) <= LONGEST_FIELD
        ):
            return f"{self.event.name}|{fields}"
        return "|".join((self.event.name, *(escape(value) for value in self.values)))

    def __str__(self) -> str:
        return self.text


def quoting(line: Line, at_most: int) -> Line:
    """Return a line that has no more than so many characters of the message that it is about."""
    if _MESSAGE not in line.event.fields:
        return line
    at = line.event.fields.index(_MESSAGE)
    return Line(line.event, (*line.values[:at], cut(str(line.values[at]), at_most), *line.values[at + 1 :]))


_MESSAGE = "message"
"""The field of an event that holds what somebody sent, with whatever secrets are in that."""


class Event(Struct, frozen=True):
    """A kind of log line.

    Attributes:
        name: its first field or fields, literally.
        fields: what the other fields are.
        level: ``debug``, ``info``, ``warn`` or ``error``.
        topic: routing key under which it is published as well; empty where it is not.
    """

    name: str
    fields: tuple[str, ...] = ()
    level: str = "info"
    topic: str = ""

    def __call__(self, *values: object) -> Line:
        """Return the line for these fields."""
        if len(values) != len(self.fields):
            raise TypeError(f"{self.name} takes {self.fields}, got {len(values)} values")
        return Line(self, values)


_ATTEMPT = ("task_type", "guid", "worker", "attempt")

STATE_CHANGE = Event("STATE_CHANGE", ("old", "new"), topic="manager.state")
DISPATCH = Event("DISPATCH", ("task_type", "guid", "worker"), topic="task.dispatched")
DISPATCH_FAILED = Event("DISPATCH_FAILED", ("task_type", "guid", "worker", "reason"), "warn")
WORKER_OFFLINE = Event("CONTROL_SUCCESS|WORKER_OFFLINE", ("worker",), topic="worker.offline")
MISSING_EXCHANGE_NAME = Event("CONTROL_FAILED|PARSE_JSON|MISSING_EXCHANGE_NAME", ("worker",), "warn")
MISSING_NAME = Event("CONTROL_WARN|PARSE_JSON|MISSING_NAME", ("exchange",), "warn")
MISSING_STATUS = Event("CONTROL_FAILED|PARSE_JSON|MISSING_STATUS", ("worker",), "warn")
NO_DATA = Event("INVALID_JSON|NO_DATA", ("message",), "warn")
INVALID_STATE = Event("INVALID_JSON|INVALID_STATE", ("state", "message"), "warn")
MESSAGE_INVALID_JSON = Event("MESSAGE_ERROR|INVALID_JSON", ("reason", "message"), "warn")

UNKNOWN_TYPE = Event("MESSAGE_ERROR|UNKNOWN_TYPE", ("type", "message"), "warn")
INVALID_DATA = Event("INVALID_JSON|INVALID_DATA", ("reason", "message"), "warn")
MISSING_WORKER_TYPE = Event("CONTROL_FAILED|PARSE_JSON|MISSING_WORKER_TYPE", ("worker",), "warn")
INVALID_FIELD = Event("CONTROL_FAILED|PARSE_JSON|INVALID_FIELD", ("worker", "reason"), "warn")
UNKNOWN_STATUS = Event("CONTROL_FAILED|UNKNOWN_STATUS", ("worker", "status"), "warn")

TASK_ACCEPTED = Event("TASK_ACCEPTED", ("task_type", "guid", "priority", "suite"), topic="task.accepted")
TASK_CANNOT_RUN = Event("TASK_CANNOT_RUN", ("task_type", "guid", "reason"), "warn")
TASK_DUPLICATE = Event("TASK_DUPLICATE", ("task_type", "guid", "state"), "warn")
TASK_REJECTED = Event("TASK_REJECTED", ("reason", "message"), "warn")
TASK_WORKING = Event("TASK_WORKING", _ATTEMPT, topic="task.working")
TASK_COMPLETED = Event("TASK_COMPLETED", _ATTEMPT, topic="task.completed")
TASK_RELEASED = Event("TASK_RELEASED", (*_ATTEMPT, "reason"), "warn", "task.released")
TASK_REGAINED = Event("TASK_REGAINED", _ATTEMPT, topic="task.regained")
TASK_STOPPED = Event("TASK_STOPPED", ("task_type", "guid", "suite"), topic="task.stopped")
TASK_DEAD = Event("TASK_DEAD", ("task_type", "guid", "attempts"), "error", "task.dead")
DEAD_NOT_QUEUED = Event("DEAD_NOT_QUEUED", ("guid", "reason"), "warn")
DEAD_SETTLED = Event("DEAD_SETTLED", ("guid",))
DISPATCH_TIMEOUT = Event("DISPATCH_TIMEOUT", _ATTEMPT, "warn")
QUEUE_DESERTED = Event("QUEUE_DESERTED", ("worker", "worker_type", "address"), "warn")
DISPATCH_UNCONFIRMED = Event("DISPATCH_UNCONFIRMED", _ATTEMPT, "warn")
DISPATCH_UNCERTAIN = Event("DISPATCH_UNCERTAIN", _ATTEMPT, "warn")
COMPLETION_IGNORED = Event("COMPLETION_IGNORED", ("worker", "guid", "reason"), "warn")

WORKER_REGISTERED = Event(
    "WORKER_REGISTERED", ("worker", "worker_type", "exchange"), topic="worker.registered"
)
WORKER_UPDATED = Event("WORKER_UPDATED", ("worker", "worker_type", "exchange"), topic="worker.updated")
WORKER_MISSING = Event("WORKER_MISSING", ("worker", "worker_type"), "warn", "worker.missing")
WORKER_STALLED = Event("WORKER_STALLED", ("worker", "worker_type", "guid"), "warn", "worker.stalled")
WORKER_BACK = Event("WORKER_BACK", ("worker", "worker_type", "was"), topic="worker.back")
WORKER_FORGOTTEN = Event("WORKER_FORGOTTEN", ("worker", "worker_type"), topic="worker.forgotten")

SUITE_PAUSED = Event("SUITE_PAUSED", ("suite", "waiting"), topic="suite.paused")
SUITE_READIED = Event("SUITE_READIED", ("suite", "waiting"), topic="suite.readied")
SUITE_STOPPED = Event("SUITE_STOPPED", ("suite", "stopped"), topic="suite.stopped")
SUITE_FINISHED = Event("SUITE_FINISHED", ("suite", "completed", "stopped", "dead"), topic="suite.finished")

RESOURCE_WAIT = Event("RESOURCE_WAIT", ("task_type", "guid", "resource"))
RESOURCE_UNLIMITED = Event("RESOURCE_UNLIMITED", ("task_type", "guid", "reason"), "warn")
RESOURCE_INVALID = Event("RESOURCE_INVALID", ("resource", "fault"), "warn")
RESERVATION_TAKEN = Event("RESERVATION_TAKEN", ("task_type", "guid", "worker", "attempt", "resources"))
RESERVATION_GIVEN_BACK = Event("RESERVATION_GIVEN_BACK", ("attempt", "resources"), "warn")
RESERVATION_FAILED = Event("RESERVATION_FAILED", ("task_type", "guid", "attempt", "reason"), "warn")
RESERVATION_KEPT = Event("RESERVATION_KEPT", ("attempt", "resources", "reason"), "warn")

WAITING_FOR = Event("WAITING_FOR", ("what", "seconds", "meaning"), "warn")
WAITED_FOR = Event("WAITED_FOR", ("what", "seconds"))
LEADERSHIP_GAINED = Event("LEADERSHIP_GAINED", ("epoch", "tasks", "workers"))
LEADERSHIP_LOST = Event("LEADERSHIP_LOST", ("epoch", "reason"), "error")
RESOURCES_READ = Event("RESOURCES_READ", ("resources",))
RESOURCES_REPLACED = Event("RESOURCES_REPLACED", ("reason",), "warn")
RESOURCES_LOST = Event("RESOURCES_LOST", ("reason",), "warn")
ETCD_TAKEN = Event("ETCD_TAKEN", ("keys", "by", "theirs", "ours"), "error")
ETCD_UNGUARDED = Event("ETCD_UNGUARDED", ("keys", "reason"), "warn")
BROKER_CONNECTED = Event("BROKER_CONNECTED", ("connection", "broker"))
BROKER_LOST = Event("BROKER_LOST", ("connection", "reason"), "warn")
BROKER_WAITING = Event("BROKER_WAITING", ("connection", "reason"), "warn")
BROKER_BLOCKED = Event("BROKER_BLOCKED", ("connection", "reason"), "warn")
BROKER_UNBLOCKED = Event("BROKER_UNBLOCKED", ("connection", "broker"))
CHANNEL_CLOSED = Event("CHANNEL_CLOSED", ("connection", "reason"), "warn")
DELIVERY_LIMIT_NEAR = Event("DELIVERY_LIMIT_NEAR", ("given_back", "message"), "error")
DELIVERIES_LOST = Event("DELIVERIES_LOST", ("reason",), "warn")
QUESTION_FAILED = Event("QUESTION_FAILED", ("reason",), "error")
REPLY_FAILED = Event("REPLY_FAILED", ("reply_to", "outcome"), "warn")
HISTORY_REMOVED = Event("HISTORY_REMOVED", ("tasks",))
HTTP_TOKEN_WRONG = Event("HTTP_TOKEN_WRONG", ("peer", "times"), "warn")
HTTP_LISTENING = Event("HTTP_LISTENING", ("address",))
HTTP_UNAVAILABLE = Event("HTTP_UNAVAILABLE", ("address", "reason"), "warn")
CONFIG_WARNING = Event("CONFIG_WARNING", ("reason",), "warn")
RELOADED = Event("RELOADED", ("changed", "pending"))
RELOAD_FAILED = Event("RELOAD_FAILED", ("reason",), "error")
LOG_LOST = Event("LOG_LOST", ("lines", "reason"), "error")
LOG_NOT_REOPENED = Event("LOG_NOT_REOPENED", ("file", "reason"), "warn")

CATALOGUE: tuple[Event, ...] = tuple(value for value in globals().values() if isinstance(value, Event))
"""Every event there is."""
