"""From the Ruby manager to this one and back, on what the Ruby manager leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.integration.ctl.test_tefctl import command
from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Shared
from tests.integration.pages import section
from tests.paths import ROOT
from tests.services import Services

PAGE = ROOT / "docs" / "migrating.md"
OPTIONS = ("--etcd-api=v3", "--http=")

MIGRATIONS = """
create table tef_dev_tasks (
    id serial primary key, task_type character varying, guid character varying not null,
    priority integer default 5 not null, dispatched timestamp without time zone, task_data text
);
create index index_tef_dev_tasks_on_guid on tef_dev_tasks (guid);
create index index_tef_dev_tasks_on_dispatched on tef_dev_tasks (dispatched);
create index index_tef_dev_tasks_on_task_type on tef_dev_tasks (task_type);
create table tef_dev_task_resources (
    id serial primary key, task_id integer, resource_name character varying not null
);
create index index_tef_dev_task_resources_on_task_id on tef_dev_task_resources (task_id);
create index index_tef_dev_task_resources_on_resource_name on tef_dev_task_resources (resource_name);
alter table tef_dev_tasks add column suite_guid character varying;
create index index_tef_dev_tasks_on_suite_guid on tef_dev_tasks (suite_guid);
alter table tef_dev_tasks add column time_limit integer;
alter table tef_dev_tasks add column status character varying;
create table tef_dev_schema_migrations (version character varying not null);
"""
"""What the four migrations of the Ruby manager make."""


class Ruby:
    """The Ruby manager's rows, and what it does with them."""

    def __init__(self, services: Services) -> None:
        self._connection = psycopg2.connect(**services.database)
        self._connection.autocommit = True
        self.ask(MIGRATIONS)

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def row(self, task_type: str, status: str | None = "ready", *names: str, **fields: object) -> str:
        """Add a row as its ``push`` does, and return the task's guid."""
        guid = fresh("guid")
        columns = {
            "task_type": task_type,
            "guid": guid,
            "status": status,
            "task_data": "---\n:message: hello\n",
            **fields,
        }
        places = ", ".join(["%s"] * len(columns))
        insert = f"insert into tef_dev_tasks ({', '.join(columns)}) values ({places}) returning id"
        [(id,)] = self.ask(insert, *columns.values())
        for name in names:
            self.ask(
                "insert into tef_dev_task_resources (task_id, resource_name) values (%s, %s)", id, name
            )
        return guid

    def poppable(self) -> list[str]:
        """Return the guids of what it would send next."""
        rows = self.ask(
            "select guid from tef_dev_tasks where dispatched is null and status = 'ready' order by id"
        )
        return [guid for (guid,) in rows]

    def close(self) -> None:
        """Remove the tables."""
        self.ask("drop table tef_dev_tasks, tef_dev_task_resources, tef_dev_schema_migrations")
        self._connection.close()


@pytest.fixture
def ruby(services: Services) -> Iterator[Ruby]:
    """The Ruby manager's tables, in the database that the manager uses too."""
    made = Ruby(services)
    yield made
    made.close()


def tefctl(daemon: Daemon, *arguments: str, status: int = 0) -> str:
    """Run tefctl with the daemon's environment, and return what it printed."""
    line = command(f"--name-prefix={daemon.prefix}", *arguments)
    root = str(ROOT)
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
    env = {**kept, **daemon.environment(), "PYTHONPATH": root, "TEF_MANAGER_ETCD_API": "v3"}
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_there(daemon: Daemon, grid: Grid, ruby: Ruby, services: Services) -> None:
    """Waiting tasks are taken over, once; what was leaked is released; its worker does them."""
    kind, suite, paused = fresh("type"), fresh("suite"), fresh("suite")
    name = fresh("resource")
    resource = Shared(APIS["v3"](services.etcd), name).make(1, count=1)
    resource.put(f"locks/123456~{int(time.time()) - 100}~1", "1")
    first = ruby.row(kind, "ready", name, suite_guid=suite, priority=1)
    second = ruby.row(kind, "ready", suite_guid=suite, priority=7, time_limit=600)
    held = ruby.row(kind, "paused", suite_guid=paused)
    sent = ruby.row(kind, "in progress", dispatched="2026-01-01")
    lost = ruby.row(kind, "in progress")
    bad = ruby.row(kind, "ready", task_data="--- [\n")

    dry = tefctl(daemon, "import-original", status=1)
    assert f"can't be taken: {bad}: its task_data can't be read: ParserError" in dry
    assert "waiting: 3 ready, 1 paused" in dry
    assert "with workers, or lost there: 2; --in-progress takes them as well" in dry
    assert "3 would be taken over; --submit does it" in dry
    assert daemon.rows("tasks") == []
    assert ruby.poppable() == [first, second, bad]

    tefctl(daemon, "resources", "release-stale", "--older-than=0", "--client=123456", "--yes")
    assert "3 taken over, 0 known already" in tefctl(daemon, "import-original", "--submit", status=1)
    assert [row["guid"] for row in daemon.rows("tasks")] == [first, second, held]
    assert ruby.poppable() == [bad]

    ruby.ask("update tef_dev_tasks set status = 'ready', dispatched = null where guid = %s", first)
    worker = RubyWorker(grid, kind)
    worker.free()
    received = worker.expect()
    assert received.message == {
        "type": "task",
        "task_type": kind,
        "guid": second,
        "priority": 7,
        "task_data": {"message": "hello"},
        "suite_guid": suite,
        "time_limit": 600,
        "resources": "",
    }
    worker.begin(received)
    worker.finish(received)
    received = worker.expect()
    assert (received.message["guid"], received.message["resources"]) == (first, name)
    worker.begin(received)
    worker.finish(received)
    until(lambda: len(daemon.rows("history", suite=suite)) == 2)
    again = tefctl(daemon, "--json", "import-original", "--submit", status=1).splitlines()[0]
    assert json.loads(again)["taken"] == 0
    assert json.loads(again)["known"] == 1
    assert len(daemon.rows("history", suite=suite)) == 2

    ruby.ask("delete from tef_dev_tasks where guid = %s", bad)
    assert "2 taken over" in tefctl(daemon, "import-original", "--in-progress", "--submit")
    for guid in (sent, lost):
        received = worker.expect()
        assert received.message["guid"] == guid
        worker.begin(received)
        worker.finish(received)
    tefctl(daemon, "resume-suite", paused)
    received = worker.expect()
    assert received.message["guid"] == held
    worker.begin(received)
    worker.finish(received)
    ruby.ask("update tef_dev_tasks set status = 'ready' where suite_guid = %s", suite)
    assert ruby.poppable() == []
    resource.remove()


def test_and_back(services: Services, tmp_path: Path) -> None:
    """What waits goes back into the queue as it came, once no manager is active, and waits no more here."""
    daemon = Daemon(services, tmp_path, fresh("back"), "--http=")
    daemon.start()
    try:
        grid = Grid(services.amqp_url, daemon.prefix)
        try:
            guids = [grid.task(fresh("type"), task_data={"n": n}) for n in range(3)]
            until(lambda: len(daemon.rows("tasks")) == 3)
            assert "stop all managers" in tefctl(daemon, "hand-back", "--submit", status=7)
            daemon.stop()
            bodies = [bytes(row["body"]) for row in daemon.rows("tasks")]
            assert "3 would be handed back, 0 are not waiting" in tefctl(daemon, "hand-back")
            assert "3 handed back, 0 are not waiting" in tefctl(daemon, "hand-back", "--submit")
            assert "0 handed back" in tefctl(daemon, "hand-back", "--submit")
            found = [grid.channel.basic_get(daemon.queue, auto_ack=True) for _ in range(4)]
            assert [body for _, _, body in found if body is not None] == bodies
            assert {row["guid"]: row["outcome"] for row in daemon.rows("history")} == dict.fromkeys(
                guids, "stopped"
            )
        finally:
            grid.close()
    finally:
        daemon.end()


class Operator:
    """Somebody who types what the page says, one command after the other.

    Args:
        daemon: the manager that is started on the way, by the configuration that the commands have as well.
        folder: for the program that is typed.
    """

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        program = folder / "bin" / "tefctl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
        program.chmod(0o755)
        self._env = daemon.environment() | {
            "PYTHONPATH": str(ROOT),
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "TEF_MANAGER_NAME_PREFIX": daemon.prefix,
        }

    def type(self, line: str) -> str:
        """Run a command, which must not fail, and return what it prints."""
        done = subprocess.run(
            ["bash", "-c", line], env=self._env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


def commands(heading: str) -> list[str]:
    """Return the commands below a heading of the page, in order."""
    found = [each.text.splitlines() for each in section(PAGE, heading) if each.kind == "sh"]
    return [line for lines in found for line in lines]


def do(worker: RubyWorker, *guids: str) -> None:
    """Let a worker do these tasks, in whatever order they come."""
    left = set(guids)
    while left:
        received = worker.expect()
        left.remove(received.guid)
        worker.begin(received)
        worker.finish(received)


def test_by_the_letter(services: Services, tmp_path: Path, ruby: Ruby) -> None:
    """Each command of the page, in its order: a dry run changes nothing, and the way back is there."""
    daemon = Daemon(services, tmp_path, fresh("letter"), "--http=")
    operator, grid = Operator(daemon, tmp_path), Grid(services.amqp_url, daemon.prefix)
    name, kind = fresh("resource"), fresh("type")
    resource = Shared(APIS["v2"](services.etcd), name).make(1, count=1)
    resource.put(f"locks/123456~{int(time.time()) - 100}~1", "1")
    waits, sent = ruby.row(kind, "ready", name), ruby.row(kind, "in progress", dispatched="2026-01-01")
    queued = grid.task(kind)
    stale, release, see, submit, see_sent, submit_sent = commands("Change over")
    try:
        assert name in operator.type(stale)
        assert resource.count == 1
        operator.type(release)
        assert (resource.count, resource.locks()) == (0, [])
        daemon.start()
        worker = RubyWorker(grid, kind)
        assert "1 would be taken over" in operator.type(see)
        until(lambda: [row["guid"] for row in daemon.rows("tasks")] == [queued], "what was in the queue")
        assert "1 taken over" in operator.type(submit)
        worker.free()
        do(worker, queued, waits)
        assert "1 would be taken over" in operator.type(see_sent)
        assert "1 taken over" in operator.type(submit_sent)
        do(worker, sent)
        until(lambda: len(daemon.rows("history")) == 3, "the end of all")
        for line in (submit, submit_sent):
            assert "0 taken over" in operator.type(line)
        assert ruby.poppable() == []

        pause = "tefctl set-state paused"
        assert pause in PAGE.read_text()
        operator.type(pause)
        back = grid.task(kind, resources=[name])
        daemon.log.wait(f"TASK_ACCEPTED|{kind}|{back}")
        assert re.search(r"^in flight +0 ", operator.type("tefctl status"), re.MULTILINE)
        daemon.stop()
        assert [row["state"] for row in daemon.rows("manager")] == ["paused"]
        see, submit = commands("And back")
        assert "1 would be handed back" in operator.type(see)
        assert grid.depth(daemon.queue) == 0
        assert "1 handed back" in operator.type(submit)
        [handed] = grid.take_all(daemon.queue, 1)
        assert (handed.guid, handed.message["resources"]) == (back, [name])
        assert (resource.count, resource.locks()) == (0, [])
    finally:
        daemon.end()
        grid.close()
        resource.remove()


def test_not_its_database(daemon: Daemon) -> None:
    """A database without the Ruby manager's tables is told from one that is empty."""
    assert "there is no table tef_dev_tasks, expected" in tefctl(daemon, "import-original", status=1)
