"""Reads what a judge has to know, from journals, the database, RabbitMQ, Etcd's past, and the logs."""

from __future__ import annotations

import base64
import http.client
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.chaos import journal
from tests.chaos.grid import LIMITS, Grid
from tests.chaos.judge import Attempt, Change, Facts, Run
from tests.integration.daemon import FAULTS, Daemon
from tests.integration.grid_client import Grid as Client
from tests.integration.grid_etcd import V3

BASE = "/tef/dev/resources"
LAST = f"{BASE}/~last"
"""A key that is written after all others."""

DISK_FULL = "File too large"
"""Python's words for the error that the log meets where the disk is made to look full."""


def collect(grid: Grid, database: Daemon, exits: list[str]) -> Facts:
    """Return what there is to know, when all managers have ended.

    ``database`` reads the tables; it need not run.
    """
    sent = {each["event"]: set[str]() for each in journal.read(grid.folder, "sender.jsonl")}
    for each in journal.read(grid.folder, "sender.jsonl"):
        sent[each["event"]].add(each["guid"])
    confirmed = sent.get("confirmed", set())
    client = Client(grid.direct.amqp_url, database.prefix)
    try:
        dead = [one.guid for one in client.take_all(f"{database.prefix}.manager.dead", 0)]
    finally:
        client.close()
    return Facts(
        confirmed,
        unconfirmed=sent.get("sent", set()) - confirmed,
        waiting={row["guid"] for row in database.rows("tasks")},
        history=[(row["guid"], row["outcome"]) for row in database.rows("history")],
        dead=dead,
        attempts=[Attempt(row["guid"], row["worker"], row["outcome"]) for row in database.rows("attempts")],
        runs=sorted(_runs(grid.folder), key=lambda run: run.time),
        changes=list(changes(grid.direct.etcd)),
        limits=LIMITS,
        broker_down=grid.killed.get("rabbitmq", []),
        errors=[line for manager in grid.managers for line in _errors(manager)],
        exits=exits,
    )


def _runs(folder: Path) -> Iterator[Run]:
    """Go through the runs of all workers. A task that came twice is begun as often as it came."""
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


def changes(etcd: tuple[str, int]) -> Iterator[Change]:
    """Go through all that ever happened to the resources: Etcd keeps its past until it is compacted."""
    V3(etcd).put(LAST, "")
    counts: dict[str, int] = dict.fromkeys(LIMITS, 0)
    locks: dict[str, set[str]] = {name: set() for name in LIMITS}
    for revision, events in groupby(_events(etcd), key=lambda event: int(event["kv"]["mod_revision"])):
        touched = set()
        for event in events:
            resource, _, field = _text(event["kv"]["key"]).removeprefix(f"{BASE}/").partition("/")
            if field == "ref_count":
                counts[resource] = int(_text(event["kv"]["value"]))
            elif field.startswith("locks/"):
                change = locks[resource].discard if event.get("type") == "DELETE" else locks[resource].add
                change(field)
            else:
                continue
            touched.add(resource)
        for resource in sorted(touched):
            yield Change(revision, resource, counts[resource], len(locks[resource]))


def _events(etcd: tuple[str, int]) -> Iterator[dict[str, Any]]:
    """Go through all changes of keys below the base, up to the last."""
    request = {"key": _coded(f"{BASE}/"), "range_end": _coded(f"{BASE}0"), "start_revision": "1"}
    connection = http.client.HTTPConnection(*etcd, timeout=30)
    try:
        connection.request("POST", "/v3/watch", json.dumps({"create_request": request}))
        answer = connection.getresponse()
        while True:
            for event in json.loads(answer.readline())["result"].get("events", ()):
                if _text(event["kv"]["key"]) == LAST:
                    return
                yield event
    finally:
        connection.close()


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(coded: str) -> str:
    return base64.b64decode(coded).decode()
