"""The daemon judged from outside: control messages and their replies, suites, lines that others watch."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import BOTH, FieldWorker, Grid, ReadmeWorker, RubyWorker, fresh


def state(name: str) -> dict[str, Any]:
    """Return the message that sets the manager's state."""
    return {"type": "set_state", "data": name}


# --- the manager's state ---


@pytest.mark.parametrize("name", ["paused", "stopped"])
def test_set_state(grid: Grid, daemon: Daemon, name: str) -> None:
    """Out of ``running`` nothing is dispatched, but tasks and workers are taken in; then all goes on."""
    worker, other = RubyWorker(grid, fresh("type")), RubyWorker(grid, fresh("type"))
    worker.free()
    in_flight = grid.task(worker.worker_type)
    received = worker.expect()
    assert received.guid == in_flight
    grid.send(state(name))
    other.free()
    waiting = grid.task(other.worker_type)
    worker.begin(received)
    assert worker.status == "working"
    worker.finish(received)
    later = grid.task(worker.worker_type)
    assert grid.ask({"type": "dispatch_tasks"}) is True
    statuses = grid.workers()
    assert (statuses[worker.name]["status"], statuses[other.name]["status"]) == ("idle", "idle")
    until(lambda: daemon.rows("history", guid=in_flight))
    assert not worker.inbox
    assert not other.inbox
    grid.send(state("running"))
    assert (worker.expect().guid, other.expect().guid) == (later, waiting)
    for guid, at in ((later, worker), (waiting, other)):
        daemon.log.wait(f"DISPATCH|{at.worker_type}|{guid}|{at.name}")
    events = daemon.log.events()
    resumed = len(events) - 1 - events[::-1].index(f"STATE_CHANGE|{name}|running")
    early = [event for event in events[:resumed] if event.startswith("DISPATCH|")]
    assert not any(guid in event for event in early for guid in (later, waiting))


def test_state_changes_are_logged(grid: Grid, daemon: Daemon) -> None:
    """Each change is a line with the old and the new state; the same state again is no change."""
    begin = len(daemon.log.events("STATE_CHANGE|"))
    for name in ("paused", "stopped", "stopped", "running"):
        assert grid.ask(state(name)) is True
    assert daemon.log.events("STATE_CHANGE|")[begin:] == [
        "STATE_CHANGE|running|paused",
        "STATE_CHANGE|paused|stopped",
        "STATE_CHANGE|stopped|running",
    ]


# --- get_workers ---


def test_get_workers(grid: Grid) -> None:
    """Each worker with its name, queue, status, and its whole task or null."""
    idle, dispatched, working = (RubyWorker(grid, fresh("type")) for _ in range(3))
    idle.free()
    messages: dict[str | None, Any] = {}
    for worker in (dispatched, working):
        worker.free()
        grid.task(worker.worker_type, task_data={"ä": [1.5, None]}, suite_guid="s", other=True)
        received = worker.expect()
        messages[worker.name] = received.message
        if worker is working:
            worker.begin(received)
    shown = grid.workers()
    for worker, status in ((idle, "idle"), (dispatched, "dispatched"), (working, "working")):
        expected: dict[str, Any] = {"name": worker.name, "work_queue": worker.queue, "status": status}
        expected |= {"task": messages.get(worker.name)}
        assert shown[worker.name].items() >= expected.items()


def test_missing_worker_is_shown(grid: Grid, daemon: Daemon) -> None:
    """One that can't be reached is listed as missing."""
    worker = RubyWorker(grid, fresh("type"), declared=False)
    worker.free()
    guid = grid.task(worker.worker_type)
    daemon.log.wait(f"DISPATCH_FAILED|{worker.worker_type}|{guid}|")
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]) == ("missing", None)


# --- replies ---


CONTROL: dict[str, dict[str, Any]] = {
    "set_state": state("running"),
    "dispatch_tasks": {"type": "dispatch_tasks"},
    "pause_suite": {"type": "pause_suite", "data": "nobody's suite"},
    "ready_suite": {"type": "ready_suite", "data": "nobody's suite"},
    "stop_suite": {"type": "stop_suite", "data": "nobody's suite"},
}


@pytest.mark.parametrize("kind", CONTROL)
def test_every_control_message_is_answered(grid: Grid, kind: str) -> None:
    """Who asks gets ``{"response": true}``."""
    assert grid.ask(CONTROL[kind]) is True


def test_shape_of_a_reply(grid: Grid) -> None:
    """It comes through the default exchange, has the correlation id, and is an object of one key."""
    grid.send({"type": "dispatch_tasks"}, reply_to=grid.reply_queue, correlation_id="ä-1")
    reply = grid.reply("ä-1")
    assert (reply.exchange, reply.routing_key) == ("", grid.reply_queue)
    assert reply.body == b'{"response":true}'


@pytest.mark.parametrize(
    "message", [CONTROL["dispatch_tasks"], {"type": "set_state"}, {"type": "get_workers"}]
)
def test_no_reply_unless_both_are_given(grid: Grid, message: dict[str, Any]) -> None:
    """Without an address or without a correlation id there is none."""
    grid.send(message)
    grid.send(message, reply_to=grid.reply_queue)
    grid.send(message, correlation_id="x")
    grid.settle()
    assert grid.unread_replies() == []


def test_reply_to_nowhere(grid: Grid, daemon: Daemon) -> None:
    """One who asked and is gone harms nobody."""
    for address in (fresh("gone"), "ä" * 127, "\0", "amq.rabbitmq.reply-to.x"):
        grid.send({"type": "get_workers"}, reply_to=address, correlation_id="x")
    grid.settle()
    assert daemon.alive


@pytest.mark.parametrize("kind", ["", ".dead", ".rejected"], ids=["own", "dead", "rejected"])
def test_reply_to_a_queue_of_the_manager(grid: Grid, daemon: Daemon, kind: str) -> None:
    """An answer is put in no queue that is read by the manager, or for it."""
    address = f"{grid.queue}{kind}"
    grid.send({"type": "get_workers"}, reply_to=address, correlation_id="x")
    daemon.log.wait(f"REPLY_FAILED|{address}|dropped: the queue is one of the manager's own")
    assert grid.ask({"type": "dispatch_tasks"}) is True


def test_direct_reply_to(grid: Grid) -> None:
    """A client may use RabbitMQ's pseudo queue for its replies."""
    replies: list[bytes] = []
    with grid.scratch() as channel:
        channel.basic_consume(
            "amq.rabbitmq.reply-to", lambda *message: replies.append(message[-1]), auto_ack=True
        )
        properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        channel.basic_publish("", grid.queue, b'{"type":"dispatch_tasks"}', properties)
        grid.wait(lambda: replies, "the reply")
    assert replies == [b'{"response":true}']


# --- order ---


def test_strictly_in_order(grid: Grid) -> None:
    """Messages act one after the other: what is asked in between sees just what came before."""
    worker = ReadmeWorker(grid, fresh("type"))
    ids = []
    for status in ("ready", "working", "offline", "working", "ready", "offline"):
        worker.say(status)
        ids.append(fresh("ask"))
        grid.send({"type": "get_workers"}, reply_to=grid.reply_queue, correlation_id=ids[-1])
    seen = []
    for correlation_id in ids:
        workers = grid.reply(correlation_id).message["response"]
        seen.append([one["status"] for one in workers if one["name"] == worker.name])
    assert seen == [["idle"], ["working"], [], ["working"], ["idle"], []]


# --- suites ---


def suite(command: str, guid: str) -> dict[str, Any]:
    """Return a message for a suite."""
    return {"type": f"{command}_suite", "data": guid}


@pytest.mark.parametrize("kind", BOTH)
def test_pause_suite(grid: Grid, kind: type[FieldWorker]) -> None:
    """Waiting and later tasks of a paused suite are held, no others; readied, they go in their order."""
    worker, name = kind(grid, fresh("type")), fresh("suite")
    held = [grid.task(worker.worker_type, suite_guid=name, priority=9) for _ in range(2)]
    grid.send(suite("pause", name))
    held.append(grid.task(worker.worker_type, suite_guid=name, priority=9))
    other = grid.task(worker.worker_type)
    worker.work_off()
    worker.free()
    grid.wait(lambda: worker.received, "the other task")
    grid.settle()
    assert [one.guid for one in worker.received] == [other]
    grid.send(suite("ready", name))
    grid.wait(lambda: len(worker.received) == 4, "all tasks")
    assert [one.guid for one in worker.received[1:]] == held


def test_pause_leaves_what_is_in_flight(grid: Grid, daemon: Daemon) -> None:
    """A task that a worker has goes on; given back, it is held as well."""
    worker, name = ReadmeWorker(grid, fresh("type")), fresh("suite")
    worker.free()
    guid = grid.task(worker.worker_type, suite_guid=name)
    received = worker.expect()
    grid.send(suite("pause", name))
    worker.begin(received)
    worker.finish(received)
    until(lambda: daemon.rows("history", guid=guid))
    guid = grid.task(worker.worker_type, suite_guid=name)
    grid.send(suite("ready", name))
    received = worker.expect()
    grid.send(suite("pause", name))
    worker.say("offline")
    worker.free()
    grid.settle()
    assert not worker.inbox
    grid.send(suite("ready", name))
    assert worker.expect().guid == guid


def test_pause_and_ready_are_repeatable(grid: Grid) -> None:
    """Twice paused is paused, once readied is ready."""
    worker, name = ReadmeWorker(grid, fresh("type")), fresh("suite")
    worker.free()
    for command in ("pause", "pause", "ready"):
        grid.send(suite(command, name))
    guid = grid.task(worker.worker_type, suite_guid=name)
    assert worker.expect().guid == guid


@pytest.mark.parametrize("paused", [False, True])
def test_stop_suite(grid: Grid, daemon: Daemon, paused: bool) -> None:
    """The waiting tasks are gone and leave a trace; those in flight, and those that come later, are not."""
    worker, name = ReadmeWorker(grid, fresh("type")), fresh("suite")
    worker.free()
    in_flight = grid.task(worker.worker_type, suite_guid=name)
    received = worker.expect()
    waiting = [grid.task(worker.worker_type, suite_guid=name) for _ in range(3)]
    other = grid.task(worker.worker_type, suite_guid=fresh("suite"))
    if paused:
        grid.send(suite("pause", name))
    grid.send(suite("stop", name))
    grid.send(suite("ready", name))
    later = grid.task(worker.worker_type, suite_guid=name)
    again = grid.task(worker.worker_type, guid=waiting[0])
    worker.work_off()
    worker.begin(received)
    worker.finish(received)
    grid.wait(lambda: len(worker.received) == 4, "what is left")
    grid.settle()
    assert {one.guid for one in worker.received} == {in_flight, other, later, again}
    assert [daemon.rows("history", guid=guid)[0]["outcome"] for guid in waiting] == ["stopped"] * 3


# --- lines ---


def test_lines_of_a_life(grid: Grid, daemon: Daemon) -> None:
    """The texts that others watch for, letter for letter."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type)
    worker.begin(worker.expect())
    worker.say("offline")
    assert worker.status is None
    events = daemon.log.events()
    assert events.count(f"DISPATCH|{worker.worker_type}|{guid}|{worker.name}") == 1
    assert events.count(f"CONTROL_SUCCESS|WORKER_OFFLINE|{worker.name}") == 1


def test_line_of_a_broken_message(grid: Grid, daemon: Daemon) -> None:
    """A message that is not JSON is logged with the reason and itself."""
    grid.send(b'{"marked":"a|b", nonsense')
    grid.settle()
    (event,) = [event for event in daemon.log.events("MESSAGE_ERROR|INVALID_JSON|") if "marked" in event]
    parts = event.split("|")
    assert len(parts) == 4
    assert parts[3] == r'{"marked":"a\x7cb", nonsense'


# --- history ---


def test_history(grid: Grid, daemon: Daemon) -> None:
    """A finished task is in history with its body; so is each attempt with worker, times and outcome."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type)
    received = worker.expect()
    worker.begin(received)
    worker.say("offline")
    other = ReadmeWorker(grid, worker.worker_type)
    other.free()
    again = other.expect()
    other.begin(again)
    other.finish(again)
    grid.settle()
    assert daemon.rows("tasks", guid=received.guid) == []
    (row,) = daemon.rows("history", guid=received.guid)
    assert bytes(row["body"]) == received.body
    assert (row["task_type"], row["outcome"], row["attempts"]) == (worker.worker_type, "completed", 2)
    first, second = daemon.rows("attempts", guid=received.guid)
    assert (first["worker"], first["outcome"]) == (worker.name, "offline")
    assert (second["worker"], second["outcome"]) == (other.name, "completed")
    for attempt in (first, second):
        assert row["received"] <= attempt["dispatched"] <= attempt["started"] <= attempt["ended"]
