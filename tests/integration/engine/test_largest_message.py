"""Tasks and answers that are larger than the broker takes, and a manager to which nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.amqp_support import largest_message
from tests.integration.daemon import CALM, Daemon, running
from tests.integration.grid_client import Grid, ReadmeWorker, Received, compact, fresh
from tests.services import Services

RABBITMQ_4 = 16 * 1024 * 1024
"""Bytes that RabbitMQ 4 takes in a message as it comes; older ones take 128 MiB."""

SMALL = 100_000
"""Bytes that a broker takes in a message, with which others become large."""

SIZE = f"is larger than configured max size {SMALL}"
TOO_MANY = "bytes, too many for one message: ask for less"


@pytest.fixture
def daemon(services: Services, tmp_path: Path, unique: str) -> Iterator[Daemon]:
    """A daemon of its own, since its log is looked through."""
    with running(Daemon(services, tmp_path, unique, *CALM)) as daemon:
        yield daemon


@pytest.fixture
def grid(services: Services, daemon: Daemon) -> Iterator[Grid]:
    """A client of it."""
    grid = Grid(services.amqp_url, daemon.prefix)
    yield grid
    grid.close()


def work_off(worker: ReadmeWorker) -> Received:
    """Let a worker do a task, and return it."""
    received = worker.expect()
    worker.begin(received)
    worker.finish(received)
    return received


def check_others(grid: Grid, daemon: Daemon) -> None:
    """Check that other tasks are done, each once, and that no connection and no leadership was lost."""
    worker = ReadmeWorker(grid, fresh("other"))
    guids = [grid.task(worker.worker_type) for _ in range(50)]
    worker.work_off()
    worker.free()
    grid.wait(lambda: len(worker.received) >= len(guids), "the others")
    grid.settle()
    assert [received.guid for received in worker.received] == guids
    assert daemon.logged(("LEADERSHIP_LOST|", "BROKER_LOST|", "DISPATCH_UNCERTAIN|", "TASK_DEAD|")) == []


@pytest.mark.parametrize("limit", [RABBITMQ_4, RABBITMQ_4 - 1])
def test_as_large_as_it_may_be(services: Services, daemon: Daemon, grid: Grid, limit: int) -> None:
    """What RabbitMQ 4 takes of a sender it takes of the manager too, byte for byte."""
    with largest_message(services, limit), grid.scratch() as channel:
        worker = ReadmeWorker(grid, fresh("kind"))
        task = {"type": "task", "task_type": worker.worker_type, "guid": fresh("large"), "task_data": ""}
        body = compact({**task, "task_data": "x" * (limit - len(compact(task)))})
        assert len(body) == limit
        channel.confirm_delivery()
        channel.basic_publish("", grid.queue, body)
        worker.free()
        assert work_off(worker).body == body
        check_others(grid, daemon)


def test_larger_than_the_broker_takes_now(services: Services, daemon: Daemon, grid: Grid) -> None:
    """Tasks that came before the limit was lowered are held back, by name, until it is raised."""
    worker = ReadmeWorker(grid, fresh("kind"))
    large = [grid.task(worker.worker_type, task_data="x" * 2 * SMALL) for _ in range(3)]
    daemon.log.wait("TASK_ACCEPTED|", len(large))
    with largest_message(services, SMALL):
        daemon.kill()  # a channel that is open has the limit of before
        daemon.start()
        small = grid.task(worker.worker_type)
        worker.free()
        assert work_off(worker).guid == small, "the large ones were in its way"
        for guid in large:
            [line] = daemon.log.wait(f"TASK_CANNOT_RUN|{worker.worker_type}|{guid}|")
            assert SIZE in line
        assert daemon.log.wait("CHANNEL_CLOSED|")
        check_others(grid, daemon)
        assert not worker.inbox
    daemon.stop()
    daemon.start()  # or it would try again within a minute
    assert {work_off(worker).guid for _ in large} == set(large)
    check_others(grid, daemon)


def test_answers(services: Services, daemon: Daemon, grid: Grid) -> None:
    """Who asks for more than the broker takes in a message is told so, and everything else goes on."""
    kind = fresh("kind")
    workers = [ReadmeWorker(grid, kind) for _ in range(SMALL // 2000)]
    for worker in workers:
        worker.free()
        grid.task(kind, task_data="x" * 2000)
    for worker in workers:
        worker.begin(worker.expect())
    grid.settle()
    daemon.kill()  # a channel that is open has the limit of before
    with largest_message(services, SMALL):
        daemon.start()
        for _ in range(3):
            answer = grid.ask({"type": "get_workers"})
            assert isinstance(answer, str)
            assert TOO_MANY in answer
        other = ReadmeWorker(grid, fresh("other"))
        guid = grid.task(other.worker_type)
        other.free()
        assert other.expect().guid == guid
    daemon.stop()
    daemon.start()  # or it would believe in the limit for a minute
    assert len(grid.workers()) > len(workers)
    assert daemon.logged(("LEADERSHIP_LOST|", "DISPATCH_UNCERTAIN|", "TASK_DEAD|")) == []
