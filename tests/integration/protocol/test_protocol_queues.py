"""The daemon judged from outside: its queues and exchanges, and how a dispatch reaches a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest

from tests.integration.daemon import CALM, Daemon, running
from tests.integration.grid_client import FieldWorker, Grid, ReadmeWorker, RubyWorker, fresh
from tests.services import Services


def refuses(grid: Grid, queue: str, **declaration: Any) -> bool:
    """Tell whether the broker holds a declaration for another one than it knows."""
    with grid.scratch() as channel:
        try:
            channel.queue_declare(queue, **declaration)
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code in (405, 406)
    return False


# --- what is declared ---


def test_manager_queue_is_plain(grid: Grid) -> None:
    """Workers declare the manager's queue durable and without arguments, and only that fits."""
    assert not refuses(grid, grid.queue, durable=True)
    assert refuses(grid, grid.queue, durable=False)
    assert refuses(grid, grid.queue, durable=True, auto_delete=True)
    assert refuses(grid, grid.queue, durable=True, exclusive=True)
    assert refuses(grid, grid.queue, durable=True, arguments={"x-max-priority": 10})


@pytest.mark.parametrize("kind", ["dead", "rejected"])
def test_own_queues_are_durable(grid: Grid, kind: str) -> None:
    """The queues for what nobody can use are there from the start, and survive the broker."""
    assert not refuses(grid, f"{grid.queue}.{kind}", passive=True)
    assert not refuses(grid, f"{grid.queue}.{kind}", durable=True)
    assert refuses(grid, f"{grid.queue}.{kind}", durable=False)


def test_events_exchange(grid: Grid) -> None:
    """The exchange for events is a durable topic exchange."""
    name = f"{grid.queue}.events"
    with grid.scratch() as channel:
        channel.exchange_declare(name, passive=True)
        channel.exchange_declare(name, "topic", durable=True)
    for kind, durable in (("topic", False), ("fanout", True)):
        with grid.scratch() as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.exchange_declare(name, kind, durable=durable)


@pytest.mark.parametrize("durable", [True, False])
def test_extra_binding(services: Services, tmp_path: Path, unique: str, durable: bool) -> None:
    """With ``--bind`` the manager takes what other programs publish to their topic exchange."""
    exchange = f"judge.{unique}.queuebert_generated_messages"
    daemon = Daemon(services, tmp_path, unique, *CALM, f"--bind={exchange}:task")
    grid = Grid(services.amqp_url, daemon.prefix)
    grid.channel.exchange_declare(exchange, "topic", durable=durable)
    with running(daemon):
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        body = b'{"type":"task","task_type":"%s","guid":"q","priority":"7"}' % worker.worker_type.encode()
        grid.channel.basic_publish(exchange, "task", body)
        assert worker.expect().body == body
    grid.close()


def test_extra_binding_to_nothing(services: Services, tmp_path: Path, unique: str) -> None:
    """With ``--bind`` to an exchange nobody has declared so far, what is published there later arrives."""
    exchange = f"judge.{unique}.queuebert_generated_messages"
    with running(Daemon(services, tmp_path, unique, *CALM, f"--bind={exchange}:task")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        grid.channel.exchange_declare(exchange, "topic", durable=True)
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        body = b'{"type":"task","task_type":"%s","guid":"q"}' % worker.worker_type.encode()
        grid.channel.basic_publish(exchange, "task", body)
        assert worker.expect().body == body
        grid.close()


def test_own_in_queue(services: Services, tmp_path: Path, unique: str) -> None:
    """With ``--in-queue`` the manager's queue has another name."""
    queue = f"judge.{unique}.own"
    with running(Daemon(services, tmp_path, unique, *CALM, f"--in-queue={queue}")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        grid.queue = queue
        assert grid.ask({"type": "get_workers"}) == []
        grid.close()


# --- how a dispatch goes out ---


def test_dispatch_to_queue(grid: Grid, daemon: Daemon) -> None:
    """A worker's queue gets the task through the default exchange, persistent."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type)
    received = worker.expect()
    assert (received.guid, received.exchange, received.routing_key) == (guid, "", worker.queue)
    assert received.properties.delivery_mode == 2
    daemon.log.wait(f"DISPATCH|{worker.worker_type}|{guid}|{worker.name}")


@pytest.mark.parametrize(("kind", "key"), [("fanout", ""), ("topic", "#"), ("direct", "task")])
def test_dispatch_to_exchange(grid: Grid, kind: str, key: str) -> None:
    """A worker whose address is an exchange gets its tasks through that, again and again."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.exchange_name = fresh("exchange")
    grid.channel.exchange_declare(worker.exchange_name, kind, durable=True)
    grid.channel.queue_bind(worker.queue, worker.exchange_name, key)
    for _ in range(3):
        worker.free()
        guid = grid.task(worker.worker_type)
        received = worker.expect()
        assert (received.guid, received.exchange) == (guid, worker.exchange_name)
        assert received.properties.delivery_mode == 2
        worker.begin(received)
        worker.finish(received)


def test_queue_and_exchange_of_one_name(grid: Grid) -> None:
    """Where a queue and an exchange have a worker's address, the task arrives once."""
    worker = ReadmeWorker(grid, fresh("type"))
    grid.channel.exchange_declare(worker.queue, "fanout", durable=True)
    grid.channel.queue_bind(worker.queue, worker.queue, "")
    worker.free()
    guid = grid.task(worker.worker_type)
    worker.expect()
    grid.settle()
    assert [received.guid for received in worker.received] == [guid]


def test_queue_becomes_exchange(grid: Grid) -> None:
    """What was found of an address is forgotten when a message is returned."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type)
    worker.begin(worker.expect())
    address = worker.queue
    worker.vanish()
    worker.queue = fresh("queue")
    worker.declare()
    grid.channel.exchange_declare(address, "fanout", durable=True)
    grid.channel.queue_bind(worker.queue, address, "")
    worker.free()
    guid = grid.task(worker.worker_type)
    while worker.exchange_name and not worker.inbox:  # a first try may have been returned
        worker.free()
        grid.settle()
    assert worker.expect().guid == guid


# --- where it can't be delivered ---


def undelivered(grid: Grid, daemon: Daemon, worker: FieldWorker) -> None:
    """Check that a dispatch is undone, and that a worker that can be reached gets the tasks in order."""
    worker.free()
    first = grid.task(worker.worker_type)
    daemon.log.wait(f"DISPATCH_FAILED|{worker.worker_type}|{first}|{worker.name}")
    assert not daemon.log.events(f"DISPATCH|{worker.worker_type}|{first}|")
    second = grid.task(worker.worker_type)
    assert worker.status == "missing"
    other = ReadmeWorker(grid, worker.worker_type)
    for guid in (first, second):
        other.free()
        received = other.expect()
        assert received.guid == guid
        other.begin(received)
    other.finish(received)


def test_vanished_queue(grid: Grid, daemon: Daemon) -> None:
    """A dispatch to a queue that is gone is undone at once, the task keeps its old place."""
    worker = RubyWorker(grid, fresh("type"))
    worker.vanish()
    undelivered(grid, daemon, worker)


def test_full_queue(grid: Grid, daemon: Daemon) -> None:
    """A dispatch that the broker does not accept is undone as well."""
    worker = RubyWorker(grid, fresh("type"), declared=False)
    grid.channel.queue_declare(
        worker.queue, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    grid.channel.basic_publish("", worker.queue, b"full")
    undelivered(grid, daemon, worker)


def test_exchange_without_queue(grid: Grid, daemon: Daemon) -> None:
    """A dispatch to an exchange that leads nowhere is undone as well."""
    worker = RubyWorker(grid, fresh("type"), declared=False)
    grid.channel.exchange_declare(worker.queue, "direct", durable=True)
    undelivered(grid, daemon, worker)


def test_worker_declares_late(grid: Grid, daemon: Daemon) -> None:
    """A worker that says it is free before it has its queue gets its task once it has."""
    worker = RubyWorker(grid, fresh("type"), declared=False)
    worker.free()
    guid = grid.task(worker.worker_type)
    daemon.log.wait(f"DISPATCH_FAILED|{worker.worker_type}|{guid}|{worker.name}")
    worker.declare()
    worker.heartbeat()
    assert worker.expect().guid == guid


DECLARATIONS: dict[str, dict[str, Any]] = {
    "transient": {},
    "auto-delete": {"auto_delete": True},
    "exclusive": {"exclusive": True},
    "priorities": {"durable": True, "arguments": {"x-max-priority": 5}},
    "quorum": {"durable": True, "arguments": {"x-queue-type": "quorum"}},
}


@pytest.mark.parametrize("kind", DECLARATIONS)
def test_queue_declared_otherwise(grid: Grid, kind: str) -> None:
    """A worker whose queue is declared in another way is served, and the manager hears on."""
    worker = ReadmeWorker(grid, fresh("type"), declared=False)
    grid.channel.queue_declare(worker.queue, **DECLARATIONS[kind])
    grid.consume(worker.queue, worker.inbox.append)
    worker.free()
    guid = grid.task(worker.worker_type)
    assert worker.expect().guid == guid
    grid.settle()
