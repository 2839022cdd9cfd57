"""The daemon judged from outside: messages that make no sense, in every way somebody could think of."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any

import pika.data
import pytest

from tests.integration.amqp_support import rabbitmqctl
from tests.integration.daemon import Daemon, is_one_line
from tests.integration.grid_client import Grid, ReadmeWorker, compact, fresh
from tests.services import Services

LIMIT = 16 * 1024 * 1024


def task(**fields: Any) -> bytes:
    """Return a task that is good but for these fields."""
    return compact({"type": "task", "task_type": "t", "guid": fresh("task"), **fields})


def without(field: str) -> bytes:
    """Return a task that lacks a field."""
    message = json.loads(task())
    del message[field]
    return compact(message)


def written(field: str, text: str) -> bytes:
    """Return a task in which a field's value is written so."""
    return task(**{field: "?"}).replace(b'"?"', text.encode())


FORGERY = "x|y\nDISPATCH|forged|guid|worker\r2026-01-01T00:00:00.000+00:00 info DISPATCH|forged|guid|worker"

NO_TASKS: dict[str, Callable[[], bytes]] = {
    # not JSON
    "empty": lambda: b"",
    "blank": lambda: b" \r\n\t",
    "NUL": lambda: b"\0",
    "not UTF-8": lambda: b"\xff\xfe\xfa",
    "Latin-1": lambda: task(task_data="?").replace(b"?", b"\xe4"),
    "UTF-16": lambda: task().decode().encode("utf-16"),
    "overlong UTF-8": lambda: task(task_data="?").replace(b"?", b"\xc0\xaf"),
    "byte order mark": lambda: b"\xef\xbb\xbf" + task(),
    "cut off": lambda: task()[:-1],
    "two of them": lambda: task() + task(),
    "rubbish behind it": lambda: task() + b"x",
    "single quotes": lambda: task().replace(b'"', b"'"),
    "a comma too many": lambda: task()[:-1] + b",}",
    "control character in a string": lambda: task(task_data="?").replace(b"?", b"\n"),
    "unknown escape": lambda: task(task_data="?").replace(b"?", rb"\x41"),
    "brackets": lambda: b"[" * 100_000,
    "braces": lambda: b'{"a":' * 100_000,
    "brackets in a field": lambda: written("task_data", "[" * 100_000 + "]" * 100_000),
    "a number of many digits, then nothing": lambda: b"1" * 100_000,
    "forged line": lambda: FORGERY.encode(),
    "format": lambda: b"{0} {log_level} {{}} %s",
    # not an object
    "null": lambda: b"null",
    "number": lambda: b"42",
    "string": lambda: b'"task"',
    "list of a task": lambda: b"[" + task() + b"]",
    # no type that is known
    "empty object": lambda: b"{}",
    "no type": lambda: without("type"),
    "type null": lambda: task(type=None),
    "type number": lambda: task(type=1),
    "type list": lambda: task(type=["task"]),
    "type object": lambda: task(type={"task": "task"}),
    "type in capitals": lambda: task(type="TASK"),
    "type forged": lambda: task(type=FORGERY),
    # numbers that JSON does not know, or nobody can hold
    "priority NaN": lambda: written("priority", "NaN"),
    "priority Infinity": lambda: written("priority", "-Infinity"),
    "priority 1e400": lambda: written("priority", "1e400"),
    "priority -1e400": lambda: written("priority", "-1e400"),
    "priority of 5,000 digits": lambda: written("priority", "9" * 5000),
    "priority '1e400'": lambda: task(priority="1e400"),
    "priority 'NaN'": lambda: task(priority="NaN"),
    "priority 'high'": lambda: task(priority="high"),
    "priority ''": lambda: task(priority=""),
    "priority '1|2'": lambda: task(priority="1|2\nx"),
    "priority true": lambda: task(priority=True),
    "priority list": lambda: task(priority=[1]),
    "priority object": lambda: task(priority={}),
    "time_limit 0": lambda: task(time_limit=0),
    "time_limit -1": lambda: task(time_limit=-1),
    "time_limit true": lambda: task(time_limit=True),
    "time_limit 1e400": lambda: written("time_limit", "1e400"),
    "time_limit text": lambda: task(time_limit="soon"),
    "time_limit list": lambda: task(time_limit=[]),
    # names
    "no guid": lambda: without("guid"),
    "guid null": lambda: task(guid=None),
    "guid number": lambda: task(guid=1.7),
    "guid true": lambda: task(guid=True),
    "guid list": lambda: task(guid=["x"]),
    "guid empty": lambda: task(guid=""),
    "guid of 256": lambda: task(guid="g" * 256),
    "guid of 256 bytes": lambda: task(guid="ä" * 128),
    "guid with NUL": lambda: task(guid="a\0b"),
    "guid with lone surrogate": lambda: written("guid", r'"\ud800"'),
    "no task_type": lambda: without("task_type"),
    "task_type null": lambda: task(task_type=None),
    "task_type number": lambda: task(task_type=0),
    "task_type object": lambda: task(task_type={"a": FORGERY}),
    "task_type empty": lambda: task(task_type=""),
    "task_type of 256": lambda: task(task_type="t" * 256),
    "task_type with NUL": lambda: task(task_type="\0"),
    "suite number": lambda: task(suite_guid=1.5),
    "suite empty": lambda: task(suite_guid=""),
    "suite of 256": lambda: task(suite_guid="s" * 256),
    "suite with NUL": lambda: task(suite_guid="\0"),
    "resources number": lambda: task(resources=5),
    "resources true": lambda: task(resources=True),
    "resources object": lambda: task(resources={"a": 1}),
    "resources with number": lambda: task(resources=["a", 5]),
    "resources with null": lambda: task(resources=["a", None]),
    "resources with empty": lambda: task(resources=["a", ""]),
    "resources with list": lambda: task(resources=[["a"]]),
    "resources of 256": lambda: task(resources="r" * 256),
    "resources with NUL": lambda: task(resources="a|b\0|c"),
    "all wrong": lambda: task(guid=[], task_type=1, priority={}, resources=0, time_limit="x"),
}
"""Messages that can't be tasks."""


def reason_of(headers: dict[str, Any] | None) -> str:
    """Return the one reason that stands in the headers."""
    (reason,) = [value for name, value in (headers or {}).items() if "reason" in name]
    assert isinstance(reason, str)
    assert reason
    return reason


def check_log(daemon: Daemon, begin: int) -> list[str]:
    """Check that every line since then is one line of ours, and return the events."""
    lines = daemon.log.lines[begin:]
    for line in lines:
        assert is_one_line(line), ascii(line)[:500]
    assert not daemon.log.events("DISPATCH|forged")
    return daemon.log.events()


@pytest.mark.parametrize("kind", NO_TASKS)
def test_no_task(grid: Grid, daemon: Daemon, kind: str) -> None:
    """It is rejected untouched, with a reason, logged on a line, answered when asked, and acknowledged."""
    body = NO_TASKS[kind]()
    begin = len(daemon.log.lines)
    grid.send(body)
    answer = grid.ask(body)
    rejected = grid.take_all(f"{grid.queue}.rejected", 2)
    assert [message.body for message in rejected] == [body, body]
    for message in rejected:
        assert reason_of(message.properties.headers)
        assert message.properties.delivery_mode == 2
    grid.settle()
    events = check_log(daemon, begin)
    assert events.count(answer) >= 1
    assert grid.depth(grid.queue) == 0


def test_over_the_limit(grid: Grid, daemon: Daemon) -> None:
    """A message over 16 MiB is no task, however good it looks; one of just 16 MiB is."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    short = task(task_type=worker.worker_type, task_data="")
    good = short.replace(b'"task_data":""', b'"task_data":"%s"' % (b"x" * (LIMIT - len(short))))
    assert len(good) == LIMIT
    bad = good[:-1] + b" }"
    grid.send(bad)
    grid.send(good)
    assert worker.expect().body == good
    (rejected,) = grid.take_all(f"{grid.queue}.rejected", 1)
    assert rejected.body == bad
    assert reason_of(rejected.properties.headers)
    assert max(map(len, daemon.log.lines)) < 20_000


STATUS = {"type": "worker_status", "name": "W", "worker_type": "t", "exchange_name": "E", "status": "ready"}


def status(**fields: Any) -> dict[str, Any]:
    """Return a status that is good but for these fields; None leaves one out."""
    return {name: value for name, value in {**STATUS, **fields}.items() if value is not None}


NO_CONTROL: dict[str, tuple[dict[str, Any], str | None]] = {
    "no name": (status(name=None), "CONTROL_WARN|PARSE_JSON|MISSING_NAME|E"),
    "empty name": (status(name=""), "CONTROL_WARN|PARSE_JSON|MISSING_NAME|E"),
    "no exchange": (status(exchange_name=None), "CONTROL_FAILED|PARSE_JSON|MISSING_EXCHANGE_NAME|W"),
    "no status": (status(status=None), "CONTROL_FAILED|PARSE_JSON|MISSING_STATUS|W"),
    "no worker type": (status(name=fresh("new"), worker_type=None), None),
    "name number": (status(name=5), None),
    "name list": (status(name=["W"]), None),
    "name of 256": (status(name="n" * 256), None),
    "name with NUL": (status(name="a\0b"), None),
    "name with pipe, nothing else": ({"type": "worker_status", "name": FORGERY}, None),
    "exchange number": (status(exchange_name=5), None),
    "exchange of 256": (status(exchange_name="ä" * 128), None),
    "status number": (status(status=1), None),
    "status unknown": (status(status="asleep"), None),
    "status forged": (status(status=FORGERY), None),
    "task number": (status(status="working", task=5.5), None),
    "task with NUL": (status(status="working", task="\0"), None),
    "worker type object": (status(worker_type={}), None),
    "state missing": ({"type": "set_state"}, 'INVALID_JSON|NO_DATA|{"type":"set_state"}'),
    "state null": ({"type": "set_state", "data": None}, "INVALID_JSON|NO_DATA|"),
    "state empty": ({"type": "set_state", "data": ""}, "INVALID_JSON|NO_DATA|"),
    "state unknown": (
        {"type": "set_state", "data": "asleep"},
        'INVALID_JSON|INVALID_STATE|asleep|{"type":"set_state","data":"asleep"}',
    ),
    "state in capitals": ({"type": "set_state", "data": "PAUSED"}, "INVALID_JSON|INVALID_STATE|PAUSED|"),
    "state list": ({"type": "set_state", "data": ["paused"]}, "INVALID_JSON|INVALID_STATE|"),
    "state number": ({"type": "set_state", "data": 1}, "INVALID_JSON|INVALID_STATE|1|"),
    "state forged": ({"type": "set_state", "data": FORGERY}, r"INVALID_JSON|INVALID_STATE|x\x7cy\n"),
    "pause nothing": ({"type": "pause_suite"}, 'INVALID_JSON|NO_DATA|{"type":"pause_suite"}'),
    "ready nothing": ({"type": "ready_suite", "data": ""}, "INVALID_JSON|NO_DATA|"),
    "stop nothing": ({"type": "stop_suite", "data": None}, "INVALID_JSON|NO_DATA|"),
    "pause number": ({"type": "pause_suite", "data": 5.5}, "INVALID_JSON|"),
    "stop list": ({"type": "stop_suite", "data": [["a"]]}, "INVALID_JSON|"),
    "stop of 256": ({"type": "stop_suite", "data": "s" * 256}, "INVALID_JSON|"),
    "stop with NUL": ({"type": "stop_suite", "data": "\0"}, "INVALID_JSON|"),
}
"""Control messages that can't be used, and how the log line begins where that is laid down."""


@pytest.mark.parametrize("kind", NO_CONTROL)
def test_no_control(grid: Grid, daemon: Daemon, kind: str) -> None:
    """It is logged with the text laid down, answered with the same when asked, and changes nothing."""
    message, text = NO_CONTROL[kind]
    before = grid.workers()
    begin = len(daemon.log.lines)
    grid.send(message)
    answer = grid.ask(message)
    assert isinstance(answer, str)
    assert answer.startswith(text or "")
    grid.settle()
    assert check_log(daemon, begin).count(answer) >= 2
    after = grid.workers()
    new = [after[name]["worker_type"] for name in set(after) - set(before)]
    assert all(worker_type.startswith("sentinel") for worker_type in new)
    assert grid.depth(grid.queue) == 0


class Raw:
    """A field of a header table: its type on the wire, and its bytes."""

    def __init__(self, kind: bytes, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload


def _long_string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


FIELDS = {
    "boolean": Raw(b"t", b"\1"),
    "signed 8": Raw(b"b", b"\xff"),
    "unsigned 8": Raw(b"B", b"\xff"),
    "signed 16": Raw(b"s", b"\xff\xff"),
    "unsigned 16": Raw(b"u", b"\xff\xff"),
    "signed 32": Raw(b"I", b"\xff" * 4),
    "unsigned 32": Raw(b"i", b"\xff" * 4),
    "signed 64": Raw(b"l", b"\xff" * 8),
    "float": Raw(b"f", struct.pack(">f", 1.5)),
    "double": Raw(b"d", struct.pack(">d", -1.5e300)),
    "decimal": Raw(b"D", b"\2" + struct.pack(">i", -314)),
    "string": Raw(b"S", _long_string("ä|\n".encode())),
    "string that is no text": Raw(b"S", _long_string(b"\xff\0")),
    "empty string": Raw(b"S", _long_string(b"")),
    "bytes": Raw(b"x", _long_string(b"\xff\0")),
    "array": Raw(b"A", _long_string(b"t\1V" + b"S" + _long_string(b"x"))),
    "time": Raw(b"T", b"\xff" * 8),
    "table": Raw(b"F", _long_string(b"\1aV" + b"\1bF" + _long_string(b""))),
    "void": Raw(b"V", b""),
}
"""Every type of field that the broker lets pass."""


@pytest.fixture
def any_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client send header fields of types it has no values for."""
    encode = pika.data.encode_value

    def encode_value(pieces: list[bytes], value: Any) -> int:
        if not isinstance(value, Raw):
            return int(encode(pieces, value))
        pieces += [value.kind, value.payload]
        return 1 + len(value.payload)

    monkeypatch.setattr(pika.data, "encode_value", encode_value)


@pytest.mark.usefixtures("any_header")
@pytest.mark.parametrize("kind", [*FIELDS, "all"])
def test_headers(grid: Grid, kind: str) -> None:
    """A task arrives, and a message that is none is rejected, whatever headers they have."""
    headers = FIELDS if kind == "all" else {kind: FIELDS[kind], "ä" * 127: Raw(b"V", b"")}
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    good, bad = task(task_type=worker.worker_type), without("guid")
    grid.send(good, headers=headers)
    grid.send(bad, headers=headers)
    assert worker.expect().body == good
    (rejected,) = grid.take_all(f"{grid.queue}.rejected", 1)
    assert rejected.body == bad


def test_reason_longer_than_a_frame(grid: Grid) -> None:
    """What is wrong with a message fits into a header, however long the message's own words are."""
    bad = compact({"type": "x" * 200_000})
    grid.send(bad)
    (rejected,) = grid.take_all(f"{grid.queue}.rejected", 1)
    assert rejected.body == bad
    assert len(reason_of(rejected.properties.headers)) == 500


def test_rejected_queue_is_deleted(grid: Grid, daemon: Daemon) -> None:
    """It is made anew for the next message, and nobody else notices."""
    grid.channel.queue_delete(f"{grid.queue}.rejected")
    told = len(daemon.log.events("WAITING_FOR|queue"))
    for _ in range(1200):  # more than are taken in at a time
        grid.send(b"bad")
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type)
    assert worker.expect().guid == guid
    daemon.log.wait("WAITED_FOR|queue")
    grid.take_all(f"{grid.queue}.rejected", 1200)
    assert len(daemon.log.events("WAITING_FOR|queue")) == told + 1


def test_rejected_queue_takes_nothing(services: Services, grid: Grid, daemon: Daemon) -> None:
    """The manager hears all the same, says so, and each message ends there once when there is room."""
    queue, count = f"{grid.queue}.rejected", 1200  # more than are taken in at a time
    grid.channel.queue_declare(queue, durable=True)
    grid.channel.queue_purge(queue)
    limit = json.dumps({"max-length": 1, "overflow": "reject-publish"})
    rabbitmqctl(services, "set_policy", "full", f"^{re.escape(queue)}$", limit, "--apply-to", "queues")
    try:
        for number in range(count):
            grid.send(b"bad %d" % number)
        worker = ReadmeWorker(grid, fresh("type"))
        worker.free()
        guid = grid.task(worker.worker_type)
        assert worker.expect().guid == guid
        daemon.log.wait(f"WAITING_FOR|queue {queue}")
    finally:
        rabbitmqctl(services, "clear_policy", "full")
    bodies = [received.body for received in grid.take_all(queue, count)]
    assert sorted(bodies) == sorted(b"bad %d" % number for number in range(count))


def test_nothing_else_is_harmed(grid: Grid, daemon: Daemon) -> None:
    """Among a hundred bad messages every good one goes its way."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.work_off()
    worker.free()
    guids = []
    for kind in NO_TASKS:
        grid.send(NO_TASKS[kind]())
        guids.append(grid.task(worker.worker_type))
    for message, _ in NO_CONTROL.values():
        grid.send(message)
    grid.wait(lambda: len(worker.received) >= len(guids), "all tasks")
    assert [received.guid for received in worker.received] == guids
    grid.take_all(f"{grid.queue}.rejected", len(NO_TASKS))
    assert daemon.alive
