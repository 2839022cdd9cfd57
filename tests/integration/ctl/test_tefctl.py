"""tefctl as people run it: a process of its own, against a daemon and real services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from xml.etree import ElementTree

import pika
import pytest

from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, Received, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Keys, Make, Shared, at_work
from tests.integration.pseudoterminal import PseudoTerminal
from tests.paths import ROOT
from tests.services import Services

OPTIONS = ("--dispatch-interval=60", "--max-attempts=1")

Tefctl = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str) -> list[str]:
    """Return the command line of tefctl."""
    return [sys.executable, "-m", "tefmanager.ctl", *arguments]


def environment(services: Services, api: str, env: str = "dev") -> dict[str, str]:
    """Return what an operator has in the environment; nothing of the database."""
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
    host, port = services.etcd
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "TEF_ENV": env,
        f"TEF_AMQP_URL_{env.upper()}": services.amqp_url,
        f"TEF_ETCD_HOST_{env.upper()}": host,
        f"TEF_ETCD_PORT_{env.upper()}": str(port),
        "TEF_MANAGER_ETCD_API": api,
    }


@pytest.fixture
def daemon(daemon_on_api: Daemon) -> Daemon:
    """The daemon of the module, on one of Etcd's APIs."""
    return daemon_on_api


@pytest.fixture
def tefctl(services: Services, daemon: Daemon, api: str) -> Tefctl:
    """Run tefctl for the daemon and return what came of it; its status has to be ``status``."""

    def run(
        *arguments: str, status: int = 0, text: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        line = command(f"--name-prefix={daemon.prefix}", *arguments)
        env = {**environment(services, api), **variables}
        done = subprocess.run(line, env=env, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def told(tefctl: Tefctl, *arguments: str, **more: Any) -> Any:
    """Run tefctl with --json and return what it printed."""
    return json.loads(tefctl("--json", *arguments, **more).stdout)


def test_from_submit_to_history(tefctl: Tefctl, grid: Grid) -> None:
    """A task is submitted, seen at its worker, explained while it is short, and followed to its end."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    first, second, suite = fresh("guid"), fresh("guid"), fresh("suite")
    lines = "\n".join(
        json.dumps({"task_type": worker.worker_type, "guid": guid, "suite_guid": suite})
        for guid in (first, second)
    )
    assert told(tefctl, "submit", "-", text=lines)["taken"] == 2
    received = worker.expect()
    worker.begin(received)
    shown = told(tefctl, "tasks", "--suite", suite)
    assert [(task["guid"], task["state"]) for task in shown["tasks"]] == [
        (first, "working"),
        (second, "waiting"),
    ]
    assert {"suite": suite, "paused": False, "waiting": 1, "dispatched": 0, "working": 1} in told(
        tefctl, "suites"
    )["suites"]
    assert told(tefctl, "explain", second)["reasons"][0]["kind"] == "workers_busy"
    assert f"no worker of type {worker.worker_type} is free for it" in tefctl("explain", second).stdout
    [mine] = told(tefctl, "workers", "--type", worker.worker_type)["workers"]
    assert (mine["name"], mine["status"], mine["task"]) == (worker.name, "working", first)
    worker.finish(received)
    worker.finish(worker.expect())
    assert told(tefctl, "task", first)["task"]["state"] == "completed"
    assert "completed" in tefctl("task", first).stdout
    until(lambda: len(told(tefctl, "history", "--suite", suite)["items"]) == 2)
    page = told(tefctl, "history", "--suite", suite, "--since", "1h", "--worker", worker.name)
    assert [(each["guid"], each["state"]) for each in page["items"]] == [
        (second, "completed"),
        (first, "completed"),
    ]
    assert (page["total"], page["next"]) == (2, None)
    cut = told(tefctl, "history", "--suite", suite, "--limit", "1")
    assert [each["guid"] for each in cut["items"]] == [second]
    rest = told(tefctl, "history", "--suite", suite, "--after", cut["next"])
    assert [each["guid"] for each in rest["items"]] == [first]
    assert first in tefctl("history", "--guid", first[:-1], "--outcome", "completed").stdout
    assert "no finished tasks" in tefctl("history", "--suite", suite, "--result", "failed").stdout
    assert "is no time such as" in tefctl("history", "--since", "tomorrow", status=2).stderr


def test_warnings_and_refusals_of_submit(tefctl: Tefctl, make: Make) -> None:
    """What can't run is taken with a warning; what is there already, or is no task, is not taken."""
    closed, guid = make(0), fresh("guid")
    task = {"task_type": fresh("type"), "guid": guid, "resources": [closed.name]}
    until(lambda: closed.name in tefctl("resources", "list").stdout)
    done = tefctl("submit", "-", text=json.dumps(task))
    assert done.stdout == "1 of 1 tasks accepted\n"
    assert f"no worker of type {task['task_type']} is known" in done.stderr
    assert f"resource {closed.name} has the limit 0 now, 1 is needed" in done.stderr
    two = json.dumps({**task, "guid": fresh("guid")})
    assert told(tefctl, "submit", "-", text=f"{two}\n{two}", status=1)["taken"] == 1
    done = tefctl("submit", "-", text=json.dumps(task), status=1)
    assert f"not accepted: {guid}: TASK_DUPLICATE|" in done.stderr
    assert (
        "task 1 can't be used: guid is missing" in tefctl("submit", "-", text='{"a": 1}', status=1).stderr
    )


def test_submit_waits(services: Services, daemon: Daemon, tefctl: Tefctl, grid: Grid, api: str) -> None:
    """With --wait it ends when all tasks have, and its status says whether all were completed."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    ends: list[tuple[Callable[[Received], None], int]] = [
        (worker.finish, 0),
        (lambda _: worker.say("offline"), 1),
    ]
    for end, status in ends:
        task = json.dumps({"task_type": worker.worker_type, "guid": fresh("guid")})
        line = command(f"--name-prefix={daemon.prefix}", "--json", "submit", "-", "--wait")
        env, pipe = environment(services, api), subprocess.PIPE
        with subprocess.Popen(line, env=env, stdin=pipe, stdout=pipe, text=True) as waiting:
            assert waiting.stdin is not None
            waiting.stdin.write(task)
            waiting.stdin.close()
            received = worker.expect()
            worker.begin(received)
            assert waiting.poll() is None
            end(received)
            assert waiting.wait(30) == status
            assert waiting.stdout is not None
            outcomes = json.loads(waiting.stdout.read())["outcomes"]
        assert outcomes == {received.guid: "dead" if status else "completed"}


def test_submit_tells_how_tasks_went(tefctl: Tefctl, grid: Grid, tmp_path: Path) -> None:
    """Its status is 0 only if all went well; what did not comes first, and JUnit's report has all."""
    worker, file = RubyWorker(grid, fresh("type")), tmp_path / "report.xml"
    worker.free()
    suite, guids = fresh("suite"), [fresh("a"), fresh("b"), fresh("c"), fresh("d")]
    tasks = [{"task_type": worker.worker_type, "guid": guid, "suite_guid": suite} for guid in guids]
    ends: tuple[dict[str, object], ...] = (
        {"result": "passed", "message": "40 checks"},
        {"result": "failed", "message": "3 of 40 | \x1b[31m"},
        {"result": "error", "message": "no disk"},
    )

    def work() -> None:
        for said in ends:
            received = worker.expect()
            worker.begin(received)
            worker.say("task_complete", task=received.guid, **said)
            worker.free()
        worker.begin(worker.expect())

    thread = Thread(target=work)
    thread.start()
    text = "\n".join(map(json.dumps, tasks))
    done = tefctl("submit", "-", "--wait-limit=15", f"--junit={file}", text=text, status=1)
    thread.join(30)
    assert done.stdout.splitlines() == [
        f"failed: {guids[1]}: 3 of 40 | \\x1b[31m ({worker.name})",
        f"error: {guids[2]}: no disk ({worker.name})",
        f"unfinished: {guids[3]} ({worker.name})",
        "4 of 4 tasks accepted",
        "1 error, 1 failed, 1 passed, 1 unfinished",
    ]
    [written] = ElementTree.parse(file).getroot()
    counts = {key: written.get(key) for key in ("name", "tests", "failures", "errors", "skipped")}
    assert counts == {"name": suite, "tests": "4", "failures": "1", "errors": "2", "skipped": "0"}
    found = told(
        tefctl, "submit", "-", "--wait-limit=1", text=json.dumps({**tasks[0], "guid": fresh("e")}), status=1
    )
    assert list(found["outcomes"].values()) == ["unfinished"]


def test_interrupted_waiting(services: Services, daemon: Daemon, api: str, tmp_path: Path) -> None:
    """Ctrl-C ends the waiting with a status of its own; the report has what is known."""
    task, report = tmp_path / "task.json", tmp_path / "report.xml"
    task.write_text(json.dumps({"task_type": fresh("type"), "guid": fresh("guid")}))
    line = command(f"--name-prefix={daemon.prefix}", "submit", str(task), f"--junit={report}")
    terminal = PseudoTerminal(tmp_path, {**environment(services, api), "TERM": "xterm"}, *line)
    try:
        terminal.until("0/1")
        terminal.type("\x03")
        terminal.until("interrupted: 0 of 1 tasks are finished, the others go on")
        terminal.until("1 unfinished")
        assert terminal.wait() == 130
    finally:
        terminal.close()
    assert [case.get("tests") for case in ElementTree.parse(report).getroot()] == ["1"]


def test_waiting_outlasts_a_restart(
    services: Services, daemon: Daemon, grid: Grid, api: str, tmp_path: Path
) -> None:
    """Who waits for tasks is told that the manager is away, and waits on."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    task, log = tmp_path / "task", tmp_path / "log"
    task.write_text(json.dumps({"task_type": worker.worker_type, "guid": fresh("guid")}))
    line = command(f"--name-prefix={daemon.prefix}", "submit", str(task), "--wait")
    with (
        log.open("w") as told,
        subprocess.Popen(line, env=environment(services, api), stdout=told, stderr=told) as waiting,
    ):
        received = worker.expect()
        worker.begin(received)
        grid.settle()
        daemon.stop()
        until(lambda: "no manager takes messages" in log.read_text(), "the news")
        daemon.start()
        worker.finish(received)
        assert waiting.wait(30) == 0
    assert log.read_text().splitlines()[-2:] == ["1 of 1 tasks accepted", "1 completed"]


def test_watching_outlasts_a_restart(services: Services, daemon: Daemon, api: str, tmp_path: Path) -> None:
    """Who watches is told that the manager is away, and sees it come back."""
    line = command(f"--name-prefix={daemon.prefix}", "watch", "--interval=0.5")
    terminal = PseudoTerminal(tmp_path, {**environment(services, api), "TERM": "xterm"}, *line)
    try:
        terminal.until("running")
        daemon.stop()
        terminal.until("no manager takes messages")
        daemon.start()
        terminal.until("running")
        assert terminal.end() == 0
    finally:
        terminal.close()


def listed(tefctl: Tefctl) -> set[str]:
    """Return the guids of the dead tasks that tefctl lists."""
    return {dead["guid"] for dead in told(tefctl, "dead", "list", "--limit=1000")["tasks"]}


def test_dead_tasks(tefctl: Tefctl, grid: Grid) -> None:
    """They are listed with their attempts, submitted again as they came, or dropped."""
    worker = RubyWorker(grid, fresh("type"))
    guids = [grid.task(worker.worker_type, task_data={"ü": 1}) for _ in range(2)]
    for _ in guids:
        worker.free()
        worker.begin(worker.expect())
        worker.say("offline")
    until(lambda: listed(tefctl) >= set(guids))
    shown = told(tefctl, "dead", "show", guids[0])
    assert [attempt["end"] for attempt in shown["attempts"]] == ["offline"]
    assert shown["message"]["task_data"] == {"ü": 1}
    assert guids[0] in tefctl("dead", "list").stdout
    tefctl("dead", "retry", guids[0])
    worker.free()
    received = worker.expect()
    assert received.message == shown["message"]
    worker.begin(received)
    worker.finish(received)
    tefctl("dead", "drop", guids[1])
    assert not listed(tefctl) & set(guids)
    assert "there is no dead task" in tefctl("dead", "drop", guids[1], status=1).stderr


def die(grid: Grid, worker: RubyWorker, **properties: Any) -> str:
    """Let a task die, and return its guid."""
    guid = fresh("task")
    grid.send({"type": "task", "task_type": worker.worker_type, "guid": guid}, **properties)
    worker.free()
    worker.begin(worker.expect())
    worker.say("offline")
    return guid


def count(grid: Grid, queue: str) -> int:
    """Return how many messages wait in a queue."""
    return int(grid.channel.queue_declare(queue, passive=True).method.message_count)


@pytest.mark.parametrize("gone", ["deleted", "purged", "taken", "full"])
def test_the_dead_queue_does_not_matter(daemon: Daemon, tefctl: Tefctl, grid: Grid, gone: str) -> None:
    """Whatever became of a dead task's copy, it is shown, and sent again once."""
    queue = f"{daemon.prefix}.manager.dead"
    worker = RubyWorker(grid, fresh("type"))
    if gone == "full":
        grid.channel.queue_delete(queue)
        full = {"x-max-length": 0, "x-overflow": "reject-publish"}
        grid.channel.queue_declare(queue, durable=True, arguments=full)
    guid = die(grid, worker)
    until(lambda: guid in listed(tefctl))
    if gone == "deleted":
        grid.channel.queue_delete(queue)
    elif gone == "purged":
        grid.channel.queue_purge(queue)
    elif gone == "taken":
        grid.take_all(queue, 1)
    else:
        daemon.log.wait(f"WAITING_FOR|queue {queue}: a message was nacked")
    shown = told(tefctl, "dead", "show", guid)
    assert (shown["guid"], shown["message"]["guid"], shown["reason"]) == (guid, guid, "given back once")
    tried = tefctl("dead", "retry", guid, "nobody's", status=1)
    assert "there is no dead task nobody's" in tried.stderr
    assert "there is no dead task" in tefctl("dead", "retry", guid, status=1).stderr
    worker.free()
    received = worker.expect()
    assert received.message == shown["message"]
    worker.begin(received)
    worker.finish(received)
    assert guid not in listed(tefctl)
    grid.channel.queue_delete(queue)
    grid.channel.queue_declare(queue, durable=True)


def test_copies_go_when_a_task_is_settled(daemon: Daemon, tefctl: Tefctl, grid: Grid) -> None:
    """A copy is the message as it came, with all that came with it; it goes with a retry or a drop."""
    queue = f"{daemon.prefix}.manager.dead"
    grid.channel.queue_purge(queue)
    worker = RubyWorker(grid, fresh("type"))
    came: dict[str, Any] = {"reply_to": "r", "correlation_id": "c", "priority": 7, "app_id": "a"}
    headers = {"h": [1, "ü"]}
    guids = [die(grid, worker, content_type="text/x", headers=headers, **came) for _ in range(3)]
    until(lambda: count(grid, queue) == 3)
    copies = grid.take_all(queue, 3)
    assert sorted(copy.guid for copy in copies) == sorted(guids)
    for copy in copies:
        assert {name: getattr(copy.properties, name) for name in came} == came
        assert (copy.properties.content_type, copy.properties.headers["h"]) == ("text/x", [1, "ü"])
        grid.channel.basic_publish("", queue, copy.body, copy.properties)
    tefctl("dead", "retry", guids[0])
    tefctl("dead", "drop", guids[1])
    until(lambda: count(grid, queue) == 1)
    [last] = grid.take_all(queue, 1)
    assert last.guid == guids[2]
    grid.channel.basic_publish("", queue, last.body, last.properties)
    assert guids[2] in told(tefctl, "dead", "drop", "--all")
    until(lambda: count(grid, queue) == 0)


def test_other_messages_in_the_dead_queue(daemon: Daemon, tefctl: Tefctl, grid: Grid) -> None:
    """What is no dead task's copy is listed as what it is, hinders nothing, and can be dropped."""
    queue = f"{daemon.prefix}.manager.dead"
    guid = die(grid, RubyWorker(grid, fresh("type")))
    until(lambda: guid in listed(tefctl))
    for body in (b"no JSON \xff\x1b[2J", b"", b'{"type": "task", "guid": "lost", "task_type": "t"}'):
        grid.channel.basic_publish("", queue, body)
    headers = {"x-tef-guid": b"\xff", "x-tef-task": "x", "x-tef-attempts": 5}
    grid.channel.basic_publish("", queue, b"odd", pika.BasicProperties(headers=headers))
    others = told(tefctl, "dead", "list")["others"]
    assert {other["text"] for other in others} >= {"", "odd"}
    [lost] = [other for other in others if other["guid"] == "lost"]
    assert lost["what"] == "a task that is not in history"
    shown = tefctl("dead", "list").stdout
    assert "no task" in shown
    assert "\x1b" not in shown
    [name] = [other["name"] for other in others if other["text"] == "odd"]
    assert sorted(told(tefctl, "dead", "drop", name, "lost")) == sorted([name, "lost"])
    assert told(tefctl, "dead", "show", guid)["guid"] == guid
    assert guid in told(tefctl, "dead", "drop", "--all")
    until(lambda: count(grid, queue) == 0)
    assert told(tefctl, "dead", "list") == {"total": 0, "tasks": [], "others": []}


def test_state_and_suites(tefctl: Tefctl, grid: Grid) -> None:
    """What is paused says so, and goes on."""
    suite = fresh("suite")
    guid = grid.task(fresh("type"), suite_guid=suite)
    tefctl("set-state", "paused")
    tefctl("pause-suite", suite)
    kinds = [reason["kind"] for reason in told(tefctl, "explain", guid)["reasons"]]
    assert kinds == ["manager_paused", "suite_paused", "no_worker"]
    tefctl("set-state", "running")
    tefctl("resume-suite", suite)
    assert told(tefctl, "status")["state"] == "running"
    tefctl("stop-suite", suite)
    assert told(tefctl, "task", guid)["task"]["state"] == "stopped"
    assert "it is finished: stopped" in tefctl("explain", guid).stdout


def test_resources(tefctl: Tefctl, grid: Grid, keys: Keys) -> None:
    """They are made, closed, opened and given windows by either API, and the manager sees it."""
    resource = Shared(keys, fresh("resource"))
    tefctl("resources", "set-limit", resource.name, "2")
    tefctl("resources", "disable", resource.name)
    assert resource.fields().items() >= {"ref_limit": "2", "available": "0"}.items()
    tefctl("resources", "enable", resource.name)
    tefctl("resources", "window", "add", resource.name, "all", "--from=0:00", "--to=24:00", "--limit=1")

    def seen() -> dict[str, Any]:
        found: list[dict[str, Any]] = told(tefctl, "resources", "list")["resources"]
        return next((each for each in found if each["name"] == resource.name), {})

    until(lambda: seen().get("window") == "all")
    worker, received = at_work(grid, resource)
    shown = seen()
    assert (shown["held"], shown["limit"], shown["own_limit"], shown["others"]) == (1, 1, 2, 0)
    assert [holder["guid"] for holder in shown["holders"]] == [received.guid]
    worker.finish(received)
    assert "there is no resource nothing" in tefctl("resources", "disable", "nothing", status=1).stderr
    resource.remove()


def test_stale_references(tefctl: Tefctl, grid: Grid, make: Make) -> None:
    """Those of others are given back when that is said; the manager's own never are."""
    resource = make(3)
    worker, received = at_work(grid, resource)
    resource.add(+1)
    client = fresh("client")
    resource.put(f"locks/{client}~{int(time.time()) - 100}~2", "2")
    arguments = ("resources", "release-stale", "--older-than=50", f"--client={client}")
    [listed] = told(tefctl, *arguments)
    assert (listed["resource"], listed["client"], resource.count) == (resource.name, client, 2)
    resource.put("ref_limit", "2")
    waiting = grid.task(worker.worker_type, resources=[resource.name])
    until(lambda: f"held by {client}, another program, for 1 m" in tefctl("explain", waiting).stdout)
    [reason] = [each for each in told(tefctl, "explain", waiting)["reasons"] if each.get("others")]
    assert [each["client"] for each in reason["held_by_others"]] == [client]
    deaf = tefctl("explain", waiting, TEF_ETCD_PORT_DEV="1")
    assert "held by other programs: 1" in deaf.stdout
    assert "can't read from Etcd which other programs hold its resources: etcd 127.0.0.1:1:" in deaf.stderr
    assert "1 released" in tefctl(*arguments, "--yes").stdout
    assert resource.count == 1
    assert [lock.client.startswith(client) for lock in resource.locks()] == [False]
    assert told(tefctl, *arguments) == []
    worker.finish(received)
    worker.finish(worker.expect())


def test_leaked_references(tefctl: Tefctl, grid: Grid, make: Make) -> None:
    """What has no lock key, or one of another form, is shown, and mended when that is confirmed."""
    resource = make(3)
    worker, received = at_work(grid, resource)
    resource.add(+2)
    resource.put("locks/job-4711", "3")
    arguments = ("resources", "leaked", resource.name)
    [listed] = told(tefctl, *arguments)
    numbers = {"count": 3, "locks": 2, "without_key": 1, "odd": ["job-4711"], "mended": False}
    assert listed == {"resource": resource.name, **numbers}
    waiting = grid.task(worker.worker_type, resources=[resource.name])
    until(lambda: "tefctl resources leaked" in tefctl("explain", waiting).stdout)
    assert "1 found; --yes mends them" in tefctl(*arguments).stdout
    assert resource.count == 3
    [mended] = told(tefctl, *arguments, "--yes")
    assert (mended["mended"], resource.count) == (True, 2)
    [mended] = told(tefctl, *arguments, "--yes", "--odd-keys")
    assert (mended["mended"], resource.count, len(resource.locks())) == (True, 1, 1)
    assert told(tefctl, *arguments) == []
    worker.finish(received)
    worker.finish(worker.expect())
    until(lambda: resource.count == 0)


def test_migration(services: Services) -> None:
    """Resources go from v2 to v3, but not while references are held, and nothing is overwritten."""
    old = Shared(APIS["v2"](services.etcd), fresh("resource"), "test")
    new = Shared(APIS["v3"](services.etcd), old.name, "test")
    old.make(4).window("night", limit=2)
    new.put("ref_limit", "7")

    def run() -> subprocess.CompletedProcess[str]:
        line = command("--json", "resources", "migrate")
        env = environment(services, "auto", "test")
        return subprocess.run(line, env=env, capture_output=True, text=True, timeout=60)

    old.put("locks/someone~1~1", "1")
    held = run()
    assert (held.returncode, old.name in held.stderr) == (1, True)
    APIS["v2"](services.etcd).delete(f"/tef/test/resources/{old.name}/locks")
    assert run().returncode == 0
    assert new.fields() == {**old.fields(), "ref_limit": "7"}
    old.remove()
    new.remove()


def test_what_is_not_there(services: Services, tefctl: Tefctl) -> None:
    """No broker, no manager, no Etcd and no task each have a status and one line of their own."""
    assert tefctl("task", "nobody's", status=1).stderr == (
        "tefctl: there is no task nobody's, and none in history\n"
    )
    cases = {
        4: ({"TEF_AMQP_URL_DEV": "amqp://127.0.0.1:1/"}, ["status"], "RabbitMQ at 127.0.0.1:1, vhost /: "),
        5: ({"TEF_MANAGER_NAME_PREFIX": fresh("nobody")}, ["status"], "no manager has ever run here"),
        6: ({"TEF_ETCD_PORT_DEV": "1"}, ["resources", "set-limit", "a", "1"], "127.0.0.1:1"),
    }
    for status, (variables, arguments, text) in cases.items():
        done = subprocess.run(
            command(*arguments),
            env={**environment(services, "v3"), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith("tefctl: ")
        assert text in done.stderr
        assert done.stderr.count("\n") == 1


def test_watch(services: Services, daemon: Daemon, api: str, tmp_path: Path) -> None:
    """It shows everything on one screen until it is interrupted."""
    line = command(f"--name-prefix={daemon.prefix}", "watch", "--interval=0.5")
    terminal = PseudoTerminal(tmp_path, {**environment(services, api), "TERM": "xterm"}, *line)
    try:
        terminal.until("manager")  # however long a loaded machine takes to start it
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_events(services: Services, daemon: Daemon, grid: Grid, api: str) -> None:
    """What happens is printed as it happens, and those that were not asked for are not."""
    task_type = fresh("type")
    line = command(f"--name-prefix={daemon.prefix}", "--json", "events", "--key=task.accepted", "--count=1")
    with subprocess.Popen(
        line, env=environment(services, api), stdout=subprocess.PIPE, text=True
    ) as listening:
        while listening.poll() is None:  # events come from a second after somebody listens on
            grid.task(task_type)
            grid.serve(0.5)
        assert listening.returncode == 0
        assert listening.stdout is not None
        event = json.loads(listening.stdout.read())
    assert (event["event"], event["task_type"]) == ("task.accepted", task_type)
