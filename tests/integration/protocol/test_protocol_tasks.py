"""The daemon judged from outside: what becomes of a task, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.daemon import Daemon, is_one_line
from tests.integration.grid_client import BOTH, FieldWorker, Grid, ReadmeWorker, RubyWorker, compact, fresh


def order_of(grid: Grid, worker: FieldWorker, count: int) -> list[str]:
    """Let a worker do so many tasks, one by one, and return their guids in that order."""
    worker.work_off()
    worker.free()
    grid.wait(lambda: len(worker.received) >= count, f"{count} tasks")
    grid.settle()
    return [received.guid for received in worker.received]


# --- from the queue to the worker ---


@pytest.mark.parametrize("kind", BOTH)
def test_worker_before_task(grid: Grid, kind: type[FieldWorker]) -> None:
    """A task goes to a worker that waits, in either vocabulary, time after time."""
    worker = kind(grid, fresh("type"))
    worker.free()
    for _ in range(3):
        guid = grid.task(worker.worker_type)
        received = worker.expect()
        assert received.guid == guid
        worker.begin(received)
        worker.finish(received)


@pytest.mark.parametrize("kind", BOTH)
def test_task_before_worker(grid: Grid, kind: type[FieldWorker]) -> None:
    """Tasks wait for a worker, and come one at a time, the next when it is free again."""
    worker = kind(grid, fresh("type"))
    guids = [grid.task(worker.worker_type) for _ in range(3)]
    worker.free()
    for guid in guids:
        received = worker.expect()
        assert received.guid == guid
        grid.settle()
        assert not worker.inbox
        worker.begin(received)
        worker.finish(received)


def test_dispatch_is_driven_by_events(grid: Grid) -> None:
    """No tick is waited for: twenty tasks one after the other take far less than one pass would."""
    worker = RubyWorker(grid, fresh("type"))
    for _ in range(20):
        grid.task(worker.worker_type)
    worker.work_off()
    worker.free()
    grid.wait(lambda: len(worker.received) == 20, "20 tasks")


def test_only_its_type(grid: Grid) -> None:
    """A worker gets the tasks of its own type, letter for letter, and no others."""
    worker = ReadmeWorker(grid, fresh("type"))
    for other in (worker.worker_type.upper(), f"{worker.worker_type} ", fresh("type"), "*", "#"):
        grid.task(other)
    guid = grid.task(worker.worker_type)
    assert order_of(grid, worker, 1) == [guid]


# --- guid ---


def test_duplicate_of_waiting(grid: Grid, daemon: Daemon) -> None:
    """A guid that waits already is not queued twice."""
    worker = ReadmeWorker(grid, fresh("type"))
    guid = grid.task(worker.worker_type)
    grid.task(worker.worker_type, guid=guid, priority=99)
    assert order_of(grid, worker, 1) == [guid]
    assert daemon.log.events(f"TASK_DUPLICATE|{worker.worker_type}|{guid}|")


@pytest.mark.parametrize("working", [False, True])
def test_duplicate_in_flight(grid: Grid, daemon: Daemon, working: bool) -> None:
    """A guid that a worker has is not queued twice."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type)
    received = worker.expect()
    if working:
        worker.begin(received)
    grid.task(worker.worker_type, guid=guid)
    grid.settle()
    assert daemon.log.events(f"TASK_DUPLICATE|{worker.worker_type}|{guid}|")
    worker.begin(received)
    worker.finish(received)
    grid.settle()
    assert not worker.inbox
    assert worker.status == "idle"


def test_guid_used_again(grid: Grid) -> None:
    """A guid that was finished may be used again, more than once."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = fresh("task")
    for _ in range(3):
        grid.task(worker.worker_type, guid=guid)
        received = worker.expect()
        worker.begin(received)
        worker.finish(received)
        grid.settle()
    assert [received.guid for received in worker.received] == [guid] * 3


def test_duplicates_are_acknowledged(grid: Grid) -> None:
    """Nothing of a duplicate stays in the manager's queue."""
    guid = grid.task(fresh("type"))
    for _ in range(5):
        grid.task("other", guid=guid)
    grid.settle()
    assert grid.depth(grid.queue) == 0


# --- priority ---


def test_priorities(grid: Grid) -> None:
    """Higher first, equals in the order of their coming; a numeric string counts; missing or null is 1."""
    worker = RubyWorker(grid, fresh("type"))
    given: list[tuple[str, dict[str, Any]]] = [
        ("h", {"priority": -3}),
        ("f", {}),
        ("g", {"priority": 0}),
        ("c", {"priority": "7"}),
        ("a", {"priority": 1e9}),
        ("f2", {"priority": None}),
        ("e", {"priority": 1.5}),
        ("f3", {"priority": "1"}),
        ("c2", {"priority": 7}),
        ("b", {"priority": "10"}),
        ("f4", {"priority": 1.0}),
        ("h2", {"priority": "-3.0"}),
    ]
    names = {grid.task(worker.worker_type, **fields): name for name, fields in given}
    order = [names[guid] for guid in order_of(grid, worker, len(given))]
    assert order == ["a", "b", "c", "c2", "e", "f", "f2", "f3", "f4", "g", "h", "h2"]


# --- the body ---


OPAQUE = {
    "blanks": b' {\n"type" :\t"task", "guid":"G" ,"task_type":"T"\r\n}  ',
    "keys": b'{"z":1,"type":"task","a":[],"guid":"G","task_type":"T","Type":"x","":null}',
    "numbers": b'{"type":"task","guid":"G","task_type":"T","x":[1.0,1e2,-0,1E-400,12345678901234567890]}',
    "large exponent": b'{"type":"task","guid":"G","task_type":"T","task_data":1e400}',
    "escapes": rb'{"type":"task","guid":"G","task_type":"T","x":"\u00e4\/\"\\\b\ud83d\ude00\u0000"}',
    "escaped keys": rb'{"t\u0079pe":"task","guid":"G","task_type":"T"}',
    "text": '{"type":"task","guid":"G","task_type":"T","task_data":"äöü€😀\u2028"}'.encode(),
    "twice the same key": b'{"type":"task","guid":"G","task_data":1,"task_type":"T","task_data":2}',
    "resources as sent": b'{"type":"task","guid":"G","task_type":"T","resources":"x|x||y","priority":2}',
    "null": b'{"type":"task","guid":"G","task_type":"T","resources":null,"priority":null}',
    "nothing to reserve": b'{"type":"task","guid":"G","task_type":"T","resources":[],"time_limit":0.5}',
    "fields of others": b'{"type":"task","guid":"G","task_type":"T","status":7,"name":[],"task":1}',
    "deep": b'{"type":"task","guid":"G","task_type":"T","task_data":' + b"[" * 200 + b"]" * 200 + b"}",
}


@pytest.mark.parametrize("kind", OPAQUE)
def test_byte_for_byte(grid: Grid, kind: str) -> None:
    """The worker gets the message just as it came, whatever stands in the fields nobody looks at."""
    worker = ReadmeWorker(grid, fresh("type"))
    body = OPAQUE[kind].replace(b'"G"', b'"%s"' % fresh("task").encode())
    body = body.replace(b'"T"', b'"%s"' % worker.worker_type.encode())
    worker.free()
    grid.send(body)
    assert worker.expect().body == body


@pytest.mark.parametrize("shift", range(4))
def test_multi_byte_over_frames(grid: Grid, shift: int) -> None:
    """Characters of several bytes that lie across the boundary of two frames arrive unharmed."""
    worker = RubyWorker(grid, fresh("type"))
    message = {"type": "task", "task_type": worker.worker_type, "guid": fresh("task")}
    body = compact({**message, "x": "." * shift, "task_data": "😀€ä" * 60_000})
    assert len(body) > 4 * 131_072
    worker.free()
    grid.send(body)
    assert worker.expect().body == body


def test_ten_megabytes(grid: Grid) -> None:
    """A body of 10 MB is a task like any other."""
    worker = RubyWorker(grid, fresh("type"))
    message = {"type": "task", "task_type": worker.worker_type, "guid": fresh("task")}
    body = compact({**message, "task_data": "ä" * 5_000_000})
    worker.free()
    grid.send(body)
    assert worker.expect().body == body


NAMES = {
    "longest": "n" * 255,
    "longest in bytes": "ä" * 127 + "x",
    "shortest": "x",
    "blank": " ",
    "pipes and lines": "a|b\r\nDISPATCH|forged|by|name\x1b[0m\x85\u2028\t",
    "braces": "{0} {name!r} %s %(x)s {",
    "quotes": "'\"; drop table x; --\\",
    "not ASCII": "ä€😀",
    "right to left": "\u202eevil\u200b",
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_every_kind(grid: Grid, daemon: Daemon, kind: str) -> None:
    """A guid, a task type and a suite may be any text of 1 to 255 bytes, and forge no line of the log."""
    name = NAMES[kind]
    worker = ReadmeWorker(grid, name)
    worker.free()
    lines = len(daemon.log.lines)
    grid.task(name, guid=name, suite_guid=name)
    received = worker.expect()
    assert (received.guid, received.message["suite_guid"]) == (name, name)
    worker.begin(received)
    worker.finish(received)
    worker.say("offline")
    grid.settle()
    assert not daemon.log.events("DISPATCH|forged")
    for line in daemon.log.lines[lines:]:
        assert is_one_line(line), ascii(line)


# --- properties of the message ---


def test_all_properties(grid: Grid) -> None:
    """Whatever properties a message has, it is a task by its body."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    message = {"type": "task", "task_type": worker.worker_type, "guid": fresh("task")}
    grid.send(
        message,
        content_type="text/plain; charset=utf-16",
        content_encoding="gzip",
        delivery_mode=1,
        priority=255,
        correlation_id="ä" * 127,
        reply_to="ö" * 127,
        expiration="600000",
        message_id="\t|\n",
        timestamp=2**63 - 1,
        type="not a task",
        user_id="guest",
        app_id="",
        cluster_id="x" * 255,
    )
    assert worker.expect().body == compact(message)


def test_no_property_at_all(grid: Grid) -> None:
    """A message without any property is handled as well."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    body = compact({"type": "task", "task_type": worker.worker_type, "guid": fresh("task")})
    grid.channel.basic_publish("", grid.queue, body)
    assert worker.expect().body == body


# --- many ---


def test_sixty_to_three(grid: Grid, daemon: Daemon) -> None:
    """60 tasks go to 3 workers, each of them once, byte for byte, and each is one line of the log."""
    kind = fresh("type")
    workers = [(RubyWorker, ReadmeWorker)[at % 2](grid, kind) for at in range(3)]
    for worker in workers:
        worker.work_off(lambda: 0.005)
        worker.free()
    bodies = {}
    for at in range(60):
        message = {"type": "task", "task_type": kind, "guid": fresh("task"), "suite_guid": "größe"}
        body = compact({**message, "task_data": {"größe": "ä€😀" * at, "zeile": "a\nb|c"}})
        bodies[str(message["guid"])] = body
        grid.send(body)
    grid.wait(lambda: sum(len(worker.received) for worker in workers) >= 60, "60 tasks")
    grid.settle()
    received = [one for worker in workers for one in worker.received]
    assert len(received) == 60
    assert {one.guid: one.body for one in received} == bodies
    assert all(worker.received for worker in workers)
    lines = daemon.log.events(f"DISPATCH|{kind}|")
    assert len(lines) == 60
    assert {line.split("|")[2] for line in lines} == set(bodies)
