"""Collects the facts for the judge from journals, the database, RabbitMQ, Etcd's history, and the logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.chaos import journal
from tests.chaos.grid import LIMITS, Grid
from tests.chaos.judge import Attempt, Facts, Run
from tests.integration.daemon import FAULTS, Daemon

DISK_FULL = "File too large"
"""Python's words for the error of the log when the disk seems to be full."""


def collect(grid: Grid, database: Daemon, exits: list[str]) -> Facts:
    """Return the facts after all managers have ended.

    ``database`` reads the tables; it need not run.
    """
    sent = {each["event"]: set[str]() for each in journal.read(grid.folder, "sender.jsonl")}
    for each in journal.read(grid.folder, "sender.jsonl"):
        sent[each["event"]].add(each["guid"])
    confirmed = sent.get("confirmed", set())
    history = database.rows("history")
    return Facts(
        confirmed,
        unconfirmed=sent.get("sent", set()) - confirmed,
        waiting={row["guid"] for row in database.rows("tasks")},
        history=[(row["guid"], row["outcome"]) for row in history],
        dead=grid.broker.take_dead(),
        unread=set(grid.gone.get(grid.broker.manager, ())),
        unburied=set(grid.gone.get(grid.broker.dead, ())),
        attempts=[_attempt(row) for row in database.rows("attempts")],
        needs={row["guid"]: row["resources"] for row in history},
        runs=sorted(_runs(grid.folder), key=lambda run: run.time),
        changes=[*grid.changes, *grid.etcd.changes()],
        limits=LIMITS,
        broker_down=grid.killed.get("rabbitmq", []),
        errors=[line for manager in grid.managers for line in _errors(manager)],
        exits=exits,
    )


def _attempt(row: dict[str, Any]) -> Attempt:
    times = (row["dispatched"].timestamp(), row["ended"].timestamp())
    return Attempt(row["guid"], row["worker"], row["outcome"], *times)


def _runs(folder: Path) -> Iterator[Run]:
    """Yield the runs of all workers. A task that came twice has as many runs as it was begun."""
    for path in sorted(folder.glob("worker.*.jsonl")):
        marks: dict[str, list[bool]] = defaultdict(list)
        for each in journal.read(folder, path.name):
            if each["event"] == "came":
                marks[each["guid"]].append(each["redelivered"])
            elif each["event"] == "begin":
                redelivered = marks[each["guid"]].pop(0)
                yield Run(each["guid"], each["worker"], each["time"], redelivered)


def _errors(manager: Daemon) -> Iterable[str]:
    lines = manager.every_line()
    return [line for line in lines if any(fault in line for fault in FAULTS) and DISK_FULL not in line]
