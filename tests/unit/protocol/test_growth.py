"""What a text costs grows with its length alone: nobody can stop the manager with a long one."""

from __future__ import annotations

import gc
import json
import struct
import time
from collections.abc import Callable

import pytest

from tefmanager.amqp.codec import decode_table
from tefmanager.ctl.foreign import foreign_locks
from tefmanager.etcd import tree
from tefmanager.etcd.daytime import minute_of
from tefmanager.protocol import catalogue
from tefmanager.protocol.fields import LONGEST_LIST, LONGEST_VALUE
from tefmanager.protocol.messages import MOST_RESOURCES, Invalid, TaskMessage, parse

SHORT, TIMES = 2_000, 32
"""Units of the shorter text, and how often as long the other one is."""

MOST_TIMES = 200.0
"""How often as much the longer one may cost: in proportion it is 32, by the square 1024."""

LEAST = 50e-6
"""Seconds that count for whatever is faster: so little tells nothing."""


def grows(do: Callable[[bytes], object], unit: bytes, head: bytes = b"", tail: bytes = b"") -> float:
    """Return how often as much something costs for the longer text."""
    short, long = (head + unit * (SHORT * times) + tail for times in (1, TIMES))
    return cost(lambda: do(long)) / max(cost(lambda: do(short)), LEAST)


def cost(do: Callable[[], object]) -> float:
    """Return the least of this thread's seconds that something took, looking for garbage not counted."""
    found = []
    gc.disable()
    try:
        for _ in range(3):
            began = time.thread_time()
            do()
            found.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(found)


FIELDS = (
    *("type", "guid", "task_type", "priority", "resources", "time_limit", "suite_guid"),
    *("name", "worker_type", "exchange_name", "status", "task", "data", "probe"),
)
TYPES = (
    b"task",
    b"worker_status",
    b"set_state",
    b"stop_suite",
    b"get_tasks",
    b"get_task",
    b"dispatch_tasks",
)
TEXTS = [
    (b"1", b'"', b'x"'),
    (b"1", b'"', b'"'),
    (b"1", b"", b""),
    (b"1", b"-0.", b"e5"),
    (b"1.", b'"', b'e"'),
    (b" ", b'"', b'x"'),
    (b"|", b'"a', b'"'),
    (b"a|", b'"', b'"'),
    (b"\\ud800", b'"', b'"'),
    (b"\\\\ud800", b'"', b'"'),
    (b"\\u0000", b'"', b'"'),
    (b"[],", b"[", b"[]]"),
    (b'{"a":1},', b"[", b"1]"),
    (b'"ab",', b"[", b'"c"]'),
    (b'"a":1,', b"{", b'"b":1}'),
    (b"[", b"", b""),
]
"""What has slowed patterns and parsers down before: what is repeated, and what is around it."""


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", TYPES)
def test_messages(kind: bytes, field: str) -> None:
    """Every field of every message."""
    base = b'{"type":"%s","guid":"g","task_type":"t","name":"n","exchange_name":"e","status":"idle",' % kind
    for unit, head, tail in TEXTS:
        start = base + b'"%s":' % field.encode() + head
        ratio = grows(lambda body: parse(body, 1 << 24), unit, start, tail + b"}")
        assert ratio < MOST_TIMES, (unit, ratio)


@pytest.mark.parametrize("unit", ["|", "\\", "\n", "\u202e", "a", "\x1b[2J", "𝟘"])
def test_log_lines(unit: str) -> None:
    """Texts that are written to the log."""
    assert grows(lambda text: catalogue.one_line(text.decode()), unit.encode()) < MOST_TIMES


@pytest.mark.parametrize("unit", [":1~1", "~1", "1", ":", " ", "/locks/", "/", "-", "a/locks/b~1~1"])
def test_etcd(unit: str) -> None:
    """Keys and values that other programs write to Etcd."""
    reads: tuple[Callable[[str], object], ...] = (
        tree.resource_key,
        tree.number,
        minute_of,
        lambda text: tree.lock_attempt("tef", text),
        lambda text: foreign_locks([text], "tef"),
        lambda text: tree.is_lock_key(text.encode()),
    )
    for read in reads:
        for tail in (b"", b"x", b"~1~1"):
            assert grows(lambda text, read=read: read(text.decode()), unit.encode(), b"", tail) < MOST_TIMES  # type: ignore[misc]


def test_header_tables() -> None:
    """The headers of a message, wide or deep: what is deeper than 64 tables is refused."""
    wide = grows(lambda raw: decode_table(struct.pack(">I", len(raw)) + raw), b"\x01aV")
    assert wide < MOST_TIMES
    raw = b""
    for _ in range(200):
        raw = b"\x01aF" + struct.pack(">I", len(raw)) + raw
    with pytest.raises(Exception, match="nested deeper than 64"):
        decode_table(struct.pack(">I", len(raw)) + raw)


# --- what is made of a field is small, however long it is ---


def refusal(**fields: object) -> str:
    """Return why a task is refused."""
    body = json.dumps({"type": "task", "task_type": "t", "guid": "g", **fields}).encode()
    found = parse(body, 1 << 24)
    assert isinstance(found, Invalid)
    return str(found.rejected)


def test_too_long() -> None:
    """A field that is too long is refused for its length, before it is looked at."""
    too_long = f"bytes of JSON, expected at most {LONGEST_VALUE}"
    for field in ("guid", "task_type", "priority", "suite_guid", "time_limit"):
        assert too_long in refusal(**{field: "1" * 22_000 + "x"})
        assert too_long in refusal(**{field: [[]] * 5000})
    assert f"at most {LONGEST_LIST}" in refusal(resources=["a" * 200] * 6000)
    for many in (
        "|".join(map(str, range(MOST_RESOURCES + 1))),
        [str(n) for n in range(MOST_RESOURCES + 1)],
    ):
        assert refusal(resources=many) == f"resources has more than {MOST_RESOURCES} names"


def test_as_long_as_allowed() -> None:
    """The longest names are taken, also with every byte escaped, and so is the longest list of them."""
    guid = json.dumps("\x01" * 255)
    names = [f"{number:04}" + "ä" * 125 for number in range(MOST_RESOURCES)]
    body = json.dumps({"type": "task", "task_type": "t", "guid": "g", "resources": names})
    found = parse(body.replace('"g"', guid).encode(), 1 << 24)
    assert isinstance(found, TaskMessage)
    assert (found.guid, len(found.resources)) == ("\x01" * 255, MOST_RESOURCES)


def test_opaque_fields_have_no_limit() -> None:
    """A field that means nothing in a message may be as long as the message."""
    body = json.dumps(
        {"type": "task", "task_type": "t", "guid": "g", "data": [[]] * 10**6, "name": "x" * 10**6}
    )
    assert isinstance(parse(body.encode(), 1 << 24), TaskMessage)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", TYPES)
def test_what_is_kept_is_short(kind: bytes, field: str) -> None:
    """Of a message that can't be used a few kilobytes of text are kept, and nothing that is nested."""
    deep = b"[" * 900 + b"]" * 900
    for value in (
        b"[%s1]" % (b"[]," * 300_000),
        b'"%s"' % (b"x" * 10**6),
        deep,
        b'{"%s":1}' % (b"k" * 10**6),
    ):
        message = parse(b'{"type":"%s","guid":"g","%s":%s}' % (kind, field.encode(), value), 1 << 24)
        if isinstance(message, Invalid):
            assert all(isinstance(kept, str) and len(kept) < 9000 for kept in message.line.values)
            assert len(message.rejected or "") < 1100
            assert len(message.line.text) < 20_000
