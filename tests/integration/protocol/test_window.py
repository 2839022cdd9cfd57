"""Messages whose meaning is in doubt, more of them than RabbitMQ sends without an acknowledgement."""

from __future__ import annotations

from pathlib import Path

from tests.integration.daemon import CALM, Daemon
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.services import Services

WINDOW = 1000
"""Messages that RabbitMQ sends to the manager without an acknowledgement."""

WORKERS = 20


def tell_again(grid: Grid, queue: str) -> None:
    """Have a whole window delivered to somebody who goes away without having acknowledged any of it."""
    channel = grid.connection.channel()
    channel.basic_qos(prefetch_count=WINDOW)
    got: list[object] = []
    channel.basic_consume(queue, lambda *found: got.append(found), auto_ack=False)
    grid.wait(lambda: len(got) >= WINDOW, "the window")
    channel.close()


def test_a_window_full_of_doubts(services: Services, tmp_path: Path) -> None:
    """Twenty workers say *ready* amid their tasks, sixty times, and all is delivered again."""
    daemon = Daemon(services, tmp_path, fresh("window"), *CALM)
    try:
        daemon.start()
        grid = Grid(services.amqp_url, daemon.prefix)
        workers = [ReadmeWorker(grid, "echo") for _ in range(WORKERS)]
        for worker in workers:
            worker.say("ready")
        guids = {grid.task("echo") for _ in workers}
        for worker in workers:
            worker.say("working", task=worker.expect().guid)
        daemon.log.wait("TASK_WORKING|", WORKERS)
        daemon.kill()
        for _ in range(60):
            for worker in workers:
                worker.say("ready")
        tell_again(grid, daemon.queue)
        daemon.start()
        completed = {line.split("|")[2] for line in daemon.log.wait("TASK_COMPLETED|", WORKERS)}
        grid.wait(lambda: grid.depth(daemon.queue) == 0, "an empty queue")
        assert completed == guids
    finally:
        daemon.end()
