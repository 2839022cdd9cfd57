"""tefctl as people run it: a process of its own, against a daemon and real services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, Received, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Keys, Make, Shared, at_work
from tests.integration.pseudoterminal import PseudoTerminal
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
        "PYTHONPATH": str(Path(__file__).parents[2]),
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
    assert told(tefctl, "task", first)["task"]["state"] == "completed"
    assert "completed" in tefctl("task", first).stdout
    worker.finish(worker.expect())


def test_warnings_and_refusals_of_submit(tefctl: Tefctl, make: Make) -> None:
    """What can't run is taken with a warning; what is there already, or is no task, is not taken."""
    closed, guid = make(0), fresh("guid")
    task = {"task_type": fresh("type"), "guid": guid, "resources": [closed.name]}
    until(lambda: closed.name in tefctl("resources", "list").stdout)
    done = tefctl("submit", "-", text=json.dumps(task))
    assert done.stdout == "1 of 1 tasks taken\n"
    assert f"no worker of type {task['task_type']} is known" in done.stderr
    assert f"resource {closed.name} has the limit 0 now, 1 is needed" in done.stderr
    two = json.dumps({**task, "guid": fresh("guid")})
    assert told(tefctl, "submit", "-", text=f"{two}\n{two}", status=1)["taken"] == 1
    done = tefctl("submit", "-", text=json.dumps(task), status=1)
    assert f"not taken: {guid}: TASK_DUPLICATE|" in done.stderr
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
    assert log.read_text().splitlines()[-2:] == ["1 of 1 tasks taken", "1 completed"]


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


@pytest.mark.parametrize("deleted", [False, True])
def test_a_dead_task_without_message(daemon: Daemon, tefctl: Tefctl, grid: Grid, deleted: bool) -> None:
    """Where the dead queue was emptied or deleted that is said, and how to get rid of what is listed."""
    worker = RubyWorker(grid, fresh("type"))
    guid = grid.task(worker.worker_type)
    worker.free()
    worker.begin(worker.expect())
    worker.say("offline")
    until(lambda: guid in listed(tefctl))
    grid.take_all(f"{daemon.prefix}.manager.dead", 1)
    if deleted:
        grid.channel.queue_delete(f"{daemon.prefix}.manager.dead")
        assert "has deleted the dead queue" in tefctl("dead", "show", guid, status=1).stderr
    for arguments in (["--all"], [guid], [guid, "nobody's"]):
        done = tefctl("dead", "retry", *arguments, status=1)
        assert f"the message of dead task {guid} is not in the dead queue" in done.stderr
        assert f"tefctl dead drop {guid}" in done.stderr
        assert ("there is no dead task nobody's" in done.stderr) == ("nobody's" in arguments)
    tefctl("dead", "drop", guid)
    assert guid not in listed(tefctl)


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
    assert "which other programs hold its resources can't be read: etcd 127.0.0.1:1:" in deaf.stderr
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
        5: ({"TEF_MANAGER_NAME_PREFIX": fresh("nobody")}, ["status"], "no manager has been here"),
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


def test_watch(services: Services, daemon: Daemon, api: str) -> None:
    """It shows everything on one screen until it is interrupted."""
    line = command(f"--name-prefix={daemon.prefix}", "watch", "--interval=0.5")
    with subprocess.Popen(
        line, env=environment(services, api), stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        time.sleep(4)
        watching.send_signal(2)
        assert watching.wait(30) == 0
        assert "manager" in watching.stdout.read()


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
