"""The daemon judged from outside: what workers say of tasks that they end."""

from __future__ import annotations

import pytest

from tests.integration.daemon import Daemon
from tests.integration.grid_client import BOTH, FieldWorker, Grid, ReadmeWorker, Received, fresh

DETAILS = {"failed": ["login", "größe"], "log": "x" * 65_000}
"""Nearly as much as is kept."""


def given(worker: FieldWorker, **fields: object) -> Received:
    """Return a task that a worker has begun."""
    worker.free()
    worker.grid.task(worker.worker_type, **fields)
    received = worker.expect()
    worker.begin(received)
    return received


def end(worker: FieldWorker, received: Received, **said: object) -> None:
    """Let a worker end a task, and say something of it."""
    word = "ready" if isinstance(worker, ReadmeWorker) else "task_complete"
    worker.say(word, task=received.guid, **said)
    worker.free()


@pytest.mark.parametrize("kind", BOTH)
def test_a_result_is_kept_and_told(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """In both vocabularies: where the task is shown, with its attempt, and in the log."""
    worker, suite = kind(grid, fresh("type")), fresh("suite")
    received = given(worker, suite_guid=suite)
    end(worker, received, result="failed", message="3 of 40", details=DETAILS)
    daemon.log.wait(f"SUITE_FINISHED|{suite}|1|0|0|0|1|0|0")
    [line] = daemon.log.events(f"TASK_COMPLETED|{worker.worker_type}|{received.guid}|{worker.name}|")
    assert line.split("|")[5] == "failed"
    told = grid.ask({"type": "get_task", "data": received.guid})
    assert (told["task"]["result"], told["task"]["message"]) == ("failed", "3 of 40")
    [attempt] = told["attempts"]
    assert (attempt["result"], attempt["message"], attempt["details"]) == ("failed", "3 of 40", DETAILS)


@pytest.mark.parametrize("kind", BOTH)
def test_a_task_goes_to_the_other_worker(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """The worker that blames its surroundings is free, and does not get it; headers tell the attempt."""
    worker = kind(grid, fresh("type"))
    received = given(worker, time_limit=77)
    other = kind(grid, worker.worker_type)
    other.say("working")
    end(worker, received, result="error", message="no disk", retry=True)
    grid.settle()
    assert not worker.inbox
    other.free()
    again = other.expect()
    assert again.body == received.body
    first, second = (each.properties.headers for each in (received, again))
    assert first["x-tef-time-limit"] == second["x-tef-time-limit"] == 77
    assert first["x-tef-attempt"] < second["x-tef-attempt"]
    [row] = daemon.rows("attempts", guid=received.guid)
    assert (row["outcome"], row["id"], row["message"]) == ("environment", first["x-tef-attempt"], "no disk")
    other.begin(again)
    end(other, again, result="passed")
