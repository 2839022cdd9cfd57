"""Whatever arrives is handled, logged and answered: it ends no turn, and what is made of it is small."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tefmanager.inquiry.questions import QUESTIONS
from tefmanager.interfaces.amqp import Delivered, Delivery, Message, Take, Tell, tell_nobody
from tefmanager.logfile.forms import JsonForm, TextForm
from tefmanager.logfile.observer import line_of
from tefmanager.status.journal import Journal
from tefmanager.status.meter import Meter
from tests.unit.engine.test_engine import Quiet, Rig

LIMIT = 1 << 16
"""Bytes that a message may have here."""

TYPES = [
    *("task", "worker_status", "set_state", "get_workers", "dispatch_tasks"),
    *("pause_suite", "ready_suite", "stop_suite", *QUESTIONS),
]
FIELDS = [
    *("guid", "task_type", "priority", "resources", "time_limit", "suite_guid", "probe", "task_data"),
    *("name", "worker_type", "exchange_name", "status", "task", "data", "type"),
]
NAMES = st.sampled_from(
    [
        *("a", "b", "idle", "ready", "working", "task_complete", "offline", "running", "paused", "stopped"),
        *(
            "",
            " ",
            "..",
            "a|b",
            "a|b|a",
            "\n",
            "\x1b[2J",
            "\u202e",
            "\0",
            "\ud800",
            "\udc00\ud83d",
            "\U0001f600",
        ),
        *(
            "{braces}",
            "%s",
            "x" * 255,
            "x" * 256,
            "ä" * 128,
            "7",
            "1e999",
            "-0",
            "NaN",
            "٣",
            "9" * 5000,
            "own",
        ),
        *("amq.topic", "dead", "null", '"', "\\", "\u2028", "a/b", "[]", "6e-1", "600"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | NAMES
    | st.text(max_size=20)
    | st.just(10**4000)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)
LONG = st.sampled_from(
    [
        *("1" * 60_000, [[]] * 10_000, ["ab"] * 10_000, {"x" * 60_000: 1}, [{}] * 10_000, "|" * 60_000),
        *("\ud800" * 9000, "\u0001" * 9000, "\u202e" * 9000),
    ]
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), VALUES | LONG, max_size=6)


GOOD: list[dict[str, object]] = [
    {"type": "task", "task_type": "t", "guid": "g", "resources": "a"},
    {"type": "task", "task_type": "t", "guid": "h", "suite_guid": "s"},
]
STATUS: dict[str, object] = {
    "type": "worker_status",
    "name": "w",
    "worker_type": "t",
    "exchange_name": "w",
}
GOOD += [{**STATUS, "status": status} for status in ("idle", "working", "task_complete", "offline")]


def nested(depth: int, kind: bytes) -> bytes:
    """Return a message in a field of which something is nested."""
    return b'{"type":"task","task_type":"t","guid":"g","%s":%s}' % (kind, b"[" * depth + b"]" * depth)


BODIES = (
    st.binary(max_size=300)
    | st.builds(
        lambda good, fields: json.dumps({**good, **fields}).encode(),
        st.sampled_from(GOOD),
        st.dictionaries(st.sampled_from(FIELDS), VALUES | LONG, max_size=1),
    )
    | st.builds(
        lambda kind, fields: json.dumps({"type": kind, **fields}).encode(), st.sampled_from(TYPES), OBJECTS
    )
    | st.builds(lambda fields: json.dumps(fields).encode()[:-1], OBJECTS)
    | st.builds(
        nested, st.integers(900, 1000), st.sampled_from([b"type", b"guid", b"resources", b"task_data"])
    )
)
WORDS = st.none() | st.binary(max_size=40)
DELIVERIES = st.builds(
    lambda body, *rest: (body[:LIMIT], *rest),
    BODIES,
    st.booleans(),
    WORDS,
    WORDS,
    WORDS,
    st.none() | st.binary(),
)


class Heard(Quiet):
    """A publisher that keeps what is answered and put aside."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Message]] = []

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Keep it."""
        self.sent.append((queue, message))
        return Delivered.CONFIRMED

    async def sift(self, queue: bytes, take: Take, at_most: int | None = None) -> str | None:
        """Find nothing in it."""
        return None


@implementer(ILogObserver)
class Logs:
    """All forms of the log, and the last events of the page."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.journal = Journal(Meter())
        self._forms = (TextForm(), JsonForm())

    def __call__(self, event: LogEvent) -> None:
        """Write an event in all forms."""
        self.journal(event)
        self.lines += [line_of(form, event) for form in self._forms]


@pytest.fixture
def logs() -> Iterator[Logs]:
    """What is logged."""
    found = Logs()
    globalLogPublisher.addObserver(found)
    yield found
    globalLogPublisher.removeObserver(found)


class HostileRig(Rig):
    """An engine that listens to anybody."""

    publisher: Heard

    def hear(self, deliveries: Sequence[Any]) -> None:
        """Take in what arrives."""
        for tag, (body, redelivered, reply_to, correlation, content_type, headers) in enumerate(
            deliveries, 1
        ):
            delivery = Delivery(1, tag, redelivered, body, reply_to, correlation, content_type, headers)
            self.engine.post(delivery)
        for _ in range(5):
            self.go_on()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DELIVERIES, min_size=1, max_size=8))
def test_anything_that_arrives(logs: Logs, deliveries: list[Any]) -> None:
    """No turn fails; all is acknowledged; each line is one; each answer is JSON, and short."""
    logs.lines.clear()
    rig = HostileRig(Heard(), message_limit=LIMIT)
    rig.hear(deliveries)
    assert rig.ended == [], "the engine goes on"
    assert sorted(tag for tags, _ in rig.acks.all for tag in tags) == list(range(1, len(deliveries) + 1))
    for line in logs.lines:
        assert line.splitlines() == [line]
        assert len(line) < 60_000
        line.encode()
    for queue, message in rig.publisher.sent:
        assert queue != b"rejected" or message.body in [body for body, *_ in deliveries]
        if queue != b"rejected":
            json.loads(message.body)
            assert len(message.body) < 100_000
    assert all(len(line.text) < 30_000 for _, _, line in logs.journal.last)
