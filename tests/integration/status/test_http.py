"""The daemon judged from outside: health, metrics, JSON, and what can be done over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tefmanager.sandbox.machine import free_ports
from tests.integration.daemon import CALM, Daemon, running, until
from tests.integration.debian import program
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.integration.grid_etcd import APIS, makes_resources
from tests.integration.http_client import TOKEN, Http, shown
from tests.paths import ROOT
from tests.services import Services


@pytest.fixture(scope="module")
def daemon(both: tuple[Daemon, Http]) -> Daemon:
    """The daemon."""
    return both[0]


@pytest.fixture
def http(both: tuple[Daemon, Http]) -> Http:
    """Its HTTP."""
    return both[1]


def metrics(http: Http) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return all samples that Prometheus would take."""
    text = http.get("/metrics").body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def one(http: Http, name: str, **labels: str) -> float:
    """Return one sample, or 0 where there is none."""
    return metrics(http).get((name, frozenset(labels.items())), 0.0)


# --- health and metrics ---


def test_an_active_manager_is_healthy_and_ready(http: Http) -> None:
    """Both say so with HTTP's status, too."""
    assert http.get("/health").json["healthy"]
    until(lambda: http.get("/ready").status == 200, "being ready")
    ready = http.get("/ready").json
    assert (ready["role"], ready["missing"]) == ("active", {})


def test_a_standby_is_ready_and_knows_nothing(services: Services, tmp_path: Path, daemon: Daemon) -> None:
    """It could take over at once; what only the active one knows is asked there in vain."""
    port = free_ports(1)[0]
    name = daemon.prefix.removeprefix("judge.")
    standby = Daemon(services, tmp_path, name, *CALM, f"--http=tcp:{port}:interface=127.0.0.1")
    try:
        standby.start(ready=False)
        standby.log.wait("WAITING_FOR|another manager is active")
        http = Http(port)
        until(lambda: http.get("/ready").status == 200, "being ready")
        assert http.get("/ready").json["role"] == "standby"
        assert http.get("/api/status").status == 503
        assert http.get("/health").json["healthy"]
        assert one(http, "tef_active") == 0.0
        standby.stop()
    finally:
        standby.end()


def test_metrics_count_what_happens(http: Http, grid: Grid) -> None:
    """A task that is done is counted at each step, and its wait is measured."""
    worker = ReadmeWorker(grid, kind := fresh("kind"))
    waiting = grid.task(kind, resources=["unlimited"])
    until(lambda: one(http, "tef_waiting_tasks", task_type=kind) == 1.0, "a waiting task")
    before = metrics(http)
    worker.free()
    received = worker.expect()
    assert received.guid == waiting
    worker.begin(received)
    worker.finish(received)
    grid.settle()
    assert one(http, "tef_tasks_accepted_total", task_type=kind) == 1.0
    assert one(http, "tef_dispatches_total", task_type=kind) == 1.0
    for name, labels in (
        ("tef_attempts_total", frozenset({("outcome", "completed")})),
        ("tef_tasks_finished_total", frozenset({("outcome", "completed")})),
        ("tef_reservations_total", frozenset({("outcome", "granted")})),
        ("tef_dispatch_wait_seconds_count", frozenset()),
        ("tef_turn_seconds_count", frozenset()),
    ):
        assert metrics(http)[name, labels] >= before.get((name, labels), 0.0) + 1.0
    assert one(http, "tef_state", state="running") == 1.0
    assert one(http, "tef_errors_total") == 0.0
    until(lambda: one(http, "tef_waiting_tasks", task_type=kind) == 0.0, "no waiting task")


def test_promtool_likes_the_metrics(http: Http) -> None:
    """Names, types and units are as Prometheus wants them."""
    promtool = program("promtool", "prometheus")
    text = http.get("/metrics").body
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_promtool_likes_the_rules() -> None:
    """The alert rules can be loaded, and fire when they should, by their own tests."""
    promtool = program("promtool", "prometheus")
    for command in (["check", "rules", "tef-manager.rules.yml"], ["test", "rules", "tef-manager.test.yml"]):
        checked = subprocess.run([promtool, *command], cwd=ROOT / "conf/prometheus", capture_output=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_rules_and_dashboard_name_metrics_that_exist(http: Http, grid: Grid) -> None:
    """What the files in ``conf/`` ask for is what the manager tells."""
    grid.task(fresh("kind"))
    text = http.get("/metrics").body.decode()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) | {name for name, _ in metrics(http)}
    known |= {f"{name}_bucket" for name in known}
    for file in ("prometheus/tef-manager.rules.yml", "grafana/tef-manager.json"):
        named = set(re.findall(r"\btef_\w+", (ROOT / "conf" / file).read_text()))
        assert named
        assert named <= known, file


def test_promtool_likes_the_dashboard(tmp_path: Path) -> None:
    """Each expression of each panel is one that Prometheus can evaluate."""
    dashboard = json.loads((ROOT / "conf/grafana/tef-manager.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": each["expr"]} for number, each in enumerate(targets)]
    assert len(rules) >= len(dashboard["panels"]) > 0
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML, too
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "rules", file], capture_output=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert b"%d rules found" % len(rules) in checked.stdout


def test_the_dashboard_names_labels_that_exist(http: Http, grid: Grid, services: Services) -> None:
    """What a panel groups or names its lines by is a label of the metric that it shows."""
    grid.task(kind := fresh("kind"))
    with makes_resources(APIS["v3"](services.etcd)) as make:
        name = make(1).name
        until(lambda: one(http, "tef_resource_limit", resource=name) == 1.0, "the resource")
        until(lambda: one(http, "tef_waiting_tasks", task_type=kind) == 1.0, "the task")
        check_labels(http)


def check_labels(http: Http) -> None:
    """Compare the labels that the dashboard uses with those that are scraped."""
    labels: dict[str, set[str]] = {}
    for name, pairs in metrics(http):
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    dashboard = json.loads((ROOT / "conf/grafana/tef-manager.json").read_text())
    for target in (target for panel in dashboard["panels"] for target in panel["targets"]):
        [name] = re.findall(r"\btef_\w+", target["expr"])
        grouped = " ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))
        used = re.findall(r"\w+", grouped) + re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))
        assert set(used) <= labels.get(name, set()), target


# --- JSON ---


def test_what_can_be_asked(http: Http, grid: Grid) -> None:
    """Status, workers, tasks, suites and resources are there, with what was just sent."""
    kind, suite = fresh("kind"), fresh("suite")
    worker = ReadmeWorker(grid, kind)
    worker.say("working")
    guid = grid.task(kind, suite_guid=suite, priority=4)
    until(lambda: http.get(f"/api/tasks/{guid}").status == 200, "the task")
    assert http.get(f"/api/tasks?type={kind}").json["tasks"][0]["guid"] == guid
    assert http.get(f"/api/tasks?suite={suite}&state=working").json["tasks"] == []
    [found] = http.get(f"/api/workers?type={kind}").json["workers"]
    assert (found["name"], found["status"]) == (worker.name, "working")
    explained = http.get(f"/api/tasks/{guid}/explanation").json
    assert "workers_busy" in [reason["kind"] for reason in explained["reasons"]]
    assert suite in [each["suite"] for each in http.get("/api/suites?limit=1000").json["suites"]]
    assert http.get("/api/status").json["state"] == "running"
    assert http.get("/api/resources").json["ready"]
    assert http.get("/api/events").json["events"][0]["text"]
    assert http.get("/api/rates").json["seconds"] == 10.0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/nothing", 404),
        ("/nothing", 404),
        ("/api/tasks/nobody", 404),
        ("/api/tasks?limit=0", 400),
        (f"/api/tasks?limit={'9' * 5000}", 400),
        ("/api/tasks?limit=1&limit=2", 400),
        ("/api/tasks?colour=red", 400),
        ("/api/tasks?state=asleep", 400),
        ("/api/tasks?type=%ff", 400),
        ("/api/tasks/%ff", 400),
    ],
)
def test_bad_questions(http: Http, path: str, status: int) -> None:
    """They are told what is wrong, as JSON."""
    answer = http.get(path)
    assert answer.status == status
    assert answer.json["error"]


def test_other_methods(http: Http, daemon: Daemon) -> None:
    """Only what is meant to change something can be posted, and nothing else works at all."""
    for method, path, allowed in (
        ("POST", "/api/status", "GET, HEAD"),
        ("GET", "/api/state", "POST"),
        ("DELETE", "/api/tasks/x", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
    ):
        answer = http.ask(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
    head = http.ask("HEAD", "/api/status")
    assert (head.status, head.body) == (200, b"")
    page = http.ask("HEAD", "/")
    assert int(page.headers["content-length"]) == len(http.get("/").body) > 1000
    assert http.ask("HEAD", "/nothing").status == http.ask("HEAD", "/api/tasks/nothing").status == 404
    # Twisted complains where it has to drop a body.
    assert [line for line in daemon.log.lines if "HEAD request" in line] == []


def test_nobody_else_may_embed_or_guess(http: Http) -> None:
    """Each answer says that it is not to be framed, sniffed or kept."""
    for path in ("/", "/api/status", "/nothing"):
        headers = http.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_fuzzed_by_its_description(http: Http, tmp_path: Path) -> None:
    """Whatever schemathesis asks, valid or not, the answer is one that the description has."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{http.url}api/openapi.json"),
        *("--exclude-path=/api/stream", "--max-examples=30", "--seed=1", "--no-color"),
        *("--phases=examples,coverage,fuzzing", "-H", f"Authorization: Bearer {TOKEN}"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr
    assert http.do("/api/state", {"state": "running"}).status == 202
    assert one(http, "tef_errors_total") == 0.0


# --- the stream ---


def test_the_stream_tells_what_changes(http: Http, grid: Grid) -> None:
    """It begins with how things are, and goes on each second with how they have become."""
    kind = fresh("kind")
    with http.stream() as events:
        assert kind not in next(events)["status"]["waiting"]["by_type"]
        grid.task(kind)
        assert any(event["status"]["waiting"]["by_type"].get(kind) == 1 for event in events)


def test_nothing_is_made_for_nobody(http: Http) -> None:
    """When the last listener has gone the manager is still there, for the next one."""
    for _ in range(3):
        with http.stream() as events:
            assert next(events)["readiness"]["role"] == "active"


# --- doing something ---


def test_state_and_suites(http: Http, grid: Grid, daemon: Daemon) -> None:
    """With the token, the manager's state can be set and suites paused, readied and stopped."""
    suite = fresh("suite/with slash")
    grid.task(fresh("kind"), suite_guid=suite)
    grid.settle()
    path = f"/api/suites/{quote(suite, safe='')}"
    for action, line in (("pause", "SUITE_PAUSED"), ("ready", "SUITE_READIED"), ("stop", "SUITE_STOPPED")):
        assert http.do(f"{path}/{action}").status == 202
        daemon.log.wait(f"{line}|{suite}|1")
    assert http.do("/api/state", {"state": "paused"}).status == 202
    daemon.log.wait("STATE_CHANGE|running|paused")
    assert http.do("/api/state", {"state": "running"}).status == 202
    daemon.log.wait("STATE_CHANGE|paused|running")


@pytest.mark.parametrize("suite", [".", "..", "a/../b", "%2e%2e", "\u202egpj", " "])
def test_suites_that_no_path_can_name(http: Http, grid: Grid, daemon: Daemon, suite: str) -> None:
    """They are named in the body, so a browser that tidies up paths does no harm."""
    before = len(daemon.log.events("SUITE_STOPPED|"))
    grid.task(fresh("kind"), suite_guid=suite)
    grid.settle()
    for action in ("pause", "ready", "stop"):
        assert http.do(f"/api/suites/{action}", {"suite": suite}).status == 202
    until(lambda: len(daemon.log.events("SUITE_STOPPED|")) > before, "its end")
    assert daemon.log.events("SUITE_STOPPED|")[-1].endswith("|1")
    assert http.do("/api/dead/drop", {"guid": suite}).status == 404
    for bad in (
        {},
        {"suite": ""},
        {"suite": "x" * 256},
        {"suite": "a\0"},
        {"suite": 7},
        {"guid": suite},
        [suite],
    ):
        assert http.do("/api/suites/stop", bad).status == 400
    assert http.ask("POST", "/api/suites/stop", {"suite": suite}).status == 401


def test_a_task_is_followed_into_history(http: Http, grid: Grid) -> None:
    """When it is finished, its attempts and how it ended are told; why it does not run, too."""
    worker = ReadmeWorker(grid, fresh("kind"))
    guid = grid.task(worker.worker_type)
    worker.free()
    received = worker.expect()
    worker.begin(received)
    grid.settle()
    found = http.get(f"/api/tasks/{guid}").json
    assert (found["task"]["state"], found["attempts"][0]["end"]) == ("working", None)
    worker.finish(received)
    grid.settle()
    found = http.get(f"/api/tasks/{guid}").json
    assert (found["task"]["state"], found["attempts"][0]["end"]) == ("completed", "completed")
    assert http.get(f"/api/tasks/{guid}/explanation").json["text"].startswith("it is finished")


def die(grid: Grid, count: int) -> list[str]:
    """Let tasks die; return their guids."""
    worker = ReadmeWorker(grid, fresh("kind"))
    guids = [grid.task(worker.worker_type, task_data={"ü": number}) for number in range(count)]
    for _ in guids:
        worker.free()
        worker.begin(worker.expect())
        worker.say("offline")
    return guids


def dead_guids(http: Http) -> list[str]:
    """Return the guids of the dead tasks that are listed."""
    return [task["guid"] for task in http.get("/api/dead?limit=1000").json["tasks"]]


def test_dead_tasks(services: Services, tmp_path: Path, unique: str) -> None:
    """One that is retried begins anew as it came, a dropped one is gone, the others stay as they are."""
    with shown(services, tmp_path, unique, "--max-attempts=1") as (daemon, http):
        grid = Grid(services.amqp_url, daemon.prefix)
        guids = die(grid, 4)
        until(lambda: dead_guids(http) == guids[::-1], "four dead tasks")
        first = http.get("/api/dead").json["tasks"][-1]
        assert (first["attempts"], first["end"]) == (1, "offline")
        assert http.do(f"/api/dead/{guids[1]}/retry").status == 202
        assert http.do(f"/api/dead/{guids[2]}/drop").status == 202
        daemon.log.wait(f"DEAD_SETTLED|{guids[2]}")
        until(lambda: dead_guids(http) == [guids[3], guids[0]], "two dead tasks")
        for action in ("retry", "drop"):
            assert http.do(f"/api/dead/{guids[2]}/{action}").status == 404
        assert http.ask("POST", f"/api/dead/{guids[0]}/drop").status == 401
        worker = ReadmeWorker(grid, http.get(f"/api/tasks/{guids[1]}").json["task"]["task_type"])
        worker.free()
        received = worker.expect()
        assert (received.guid, received.message["task_data"]) == (guids[1], {"ü": 1})
        worker.begin(received)
        worker.finish(received)
        grid.send({"type": "settle_dead", "data": {"guids": guids[:1]}})
        daemon.log.wait(f"DEAD_SETTLED|{guids[0]}")
        assert dead_guids(http) == [guids[3]]
        queue = f"{daemon.prefix}.manager.dead"
        until(lambda: grid.channel.queue_declare(queue, passive=True).method.message_count == 1, "a copy")
        [left] = grid.take_all(queue, 1)
        assert left.properties.headers["x-tef-guid"] == left.guid == guids[3]
        assert [attempt["end"] for attempt in left.properties.headers["x-tef-attempts"]] == ["offline"]
        assert left.properties.delivery_mode == 2
        unknown = http.do("/api/dead/nobody's/retry")
        assert (unknown.status, unknown.json["error"]) == (404, "there is no such dead task")
        assert http.do(f"/api/dead/{guids[3]}/drop").status == 202
        assert dead_guids(http) == []
        grid.close()


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", f"Basic {TOKEN}", f"bearer {TOKEN}x"])
def test_without_the_token(http: Http, daemon: Daemon, authorization: str) -> None:
    """Nothing is done, and the token is in no log."""
    headers = {"authorization": authorization} if authorization else {}
    assert http.ask("POST", "/api/state", {"state": "stopped"}, **headers).status == 401
    assert http.get("/api/status").json["state"] == "running"
    assert not [line for line in daemon.every_line() if TOKEN in line]


def test_bad_bodies(http: Http) -> None:
    """What is no state is refused, and what is too long isn't read."""
    for body in (b"", b"{", {"state": "asleep"}, {"state": "paused", "more": 1}, b"\xff", [1]):
        assert http.do("/api/state", body).status == 400
    assert http.do("/api/state", b" " * 5000).status == 413


# --- where ---


def test_read_only_without_a_token(services: Services, tmp_path: Path, unique: str) -> None:
    """Where the manager was given none, nothing can be done, whatever is sent."""
    port = free_ports(1)[0]
    options = (*CALM, f"--http=tcp:{port}:interface=127.0.0.1")
    with running(Daemon(services, tmp_path, unique, *options)):
        assert Http(port).do("/api/state", {"state": "paused"}).status == 403


def test_a_place_that_is_taken(services: Services, tmp_path: Path, unique: str) -> None:
    """Who asked for it is told in one line, and the process ends with status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        daemon = Daemon(services, tmp_path, unique, *CALM, f"--http={endpoint}")
        try:
            daemon.start(ready=False)
            until(lambda: not daemon.alive, "its end")
            [line] = [line for line in daemon.log.lines if line.startswith("tef-manager: ")]
            assert line == f"tef-manager: --http: can't listen on {endpoint}: Address already in use"
            assert daemon._process is not None
            assert daemon._process.returncode == 1
        finally:
            daemon.end()


def test_nowhere(services: Services, tmp_path: Path, unique: str) -> None:
    """With an empty ``--http`` nothing listens, and all else works."""
    with running(Daemon(services, tmp_path, unique, *CALM, "--http=")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        grid.settle()
        assert daemon.log.events("HTTP_") == []
        grid.close()


def test_a_socket_file(services: Services, tmp_path: Path, unique: str) -> None:
    """The page may be behind a file, for a web server in front of it."""
    file = tmp_path / "http"
    with running(Daemon(services, tmp_path, unique, *CALM, f"--http=unix:{file}")) as daemon:
        assert daemon.log.wait("HTTP_LISTENING|") == [f"HTTP_LISTENING|{file}"]
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(file))
            line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            assert line.recv(100).startswith(b"HTTP/1.0 200")


def test_a_stuck_turn_is_no_health(services: Services, tmp_path: Path, unique: str) -> None:
    """While the process is stopped nobody answers; afterwards it is healthy again."""
    with shown(services, tmp_path, unique) as (daemon, http):
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError), socket.create_connection(("127.0.0.1", http.port)) as line:
                line.settimeout(0.5)
                line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                line.recv(1)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        until(lambda: http.get("/health").status == 200, "health")
        assert json.loads(http.get("/health").body)["healthy"]
