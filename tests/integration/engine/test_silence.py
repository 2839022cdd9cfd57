"""Whatever is away or does not answer is told: in the log, at /ready, in explanations, to tefctl."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pika
import psycopg2
import pytest

from tefmanager.sandbox.machine import free_ports
from tests.integration.amqp_support import rabbitmqctl
from tests.integration.ctl.test_tefctl import command, environment
from tests.integration.daemon import Daemon, running, until
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, makes_resources
from tests.integration.http_client import Http
from tests.services import Services

TOLD = 60.0
"""Seconds within which an outage is told; 30 are the promise."""

HIGHEST = 2**31 - 1
"""Precedence of a consumer that gets everything."""


@dataclass
class Scene:
    """A daemon, and all ways to learn how it is."""

    services: Services
    daemon: Daemon
    http: Http
    grid: Grid

    def away(self, service: str) -> Any:
        """Return what ``/ready`` says of a service that is away, or None."""
        outages = self.http.get("/ready").json["outages"]
        return next((each for each in outages if each["service"] == service), None)

    def metric(self, service: str) -> float:
        """Return what Prometheus would be told of a service."""
        start = f'tef_outage{{service="{service}"}} '
        lines = self.http.get("/metrics").body.decode().splitlines()
        return next(float(line.removeprefix(start)) for line in lines if line.startswith(start))

    def told(self, service: str, cause: str) -> None:
        """Wait until ``/ready`` says it, and see that everything else says the same."""
        until(lambda: cause in (self.away(service) or {"cause": ""})["cause"], cause, TOLD)
        outage = self.away(service)
        assert outage["since"] > 0
        assert outage["meaning"]
        assert self.metric(service) == 1.0

    def over(self, service: str) -> None:
        """Wait until it is over."""
        until(lambda: self.away(service) is None, f"the end of {service}", TOLD)
        assert self.metric(service) == 0.0

    def tefctl(self, *arguments: str) -> str:
        """Return all that tefctl prints."""
        done = subprocess.run(
            [*command(f"--name-prefix={self.daemon.prefix}", "--timeout=5"), *arguments],
            env=environment(self.services, "v3"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr


@contextmanager
def staged(services: Services, folder: Path, name: str, *options: str) -> Iterator[Scene]:
    """Run a daemon that is asked in every way."""
    port = free_ports(1)[0]
    daemon = Daemon(services, folder, name, f"--http=tcp:{port}:interface=127.0.0.1", *options)
    with running(daemon):
        grid = Grid(services.amqp_url, daemon.prefix)
        scene = Scene(services, daemon, Http(port), grid)
        until(lambda: scene.http.get("/ready").status == 200, "being ready")
        yield scene
        grid.close()


@pytest.fixture
def scene(services: Services, tmp_path: Path, unique: str) -> Iterator[Scene]:
    """One on services that others use, too."""
    with staged(services, tmp_path, unique, "--etcd-api=v3") as scene:
        yield scene


# --- deaf ---


def test_another_consumer_gets_everything(scene: Scene) -> None:
    """Connected, and deaf: that is told within half a minute, and the manager connects anew."""
    connection = pika.BlockingConnection(pika.URLParameters(scene.services.amqp_url))
    try:
        channel = connection.channel()
        channel.basic_consume(
            scene.daemon.queue, lambda *_: None, auto_ack=True, arguments={"x-priority": HIGHEST}
        )
        connection.process_data_events(0)
        until(lambda: connection.process_data_events(0) or scene.away("probe"), "deafness", TOLD)
        scene.told("probe", "RabbitMQ has it, and delivers nothing")
        assert scene.http.get("/ready").status == 503
        scene.daemon.log.wait("WAITING_FOR|probe: the manager's own message does not come back")
        scene.daemon.log.wait("BROKER_LOST|consumer|")
        scene.daemon.log.wait("BROKER_CONNECTED|consumer", 2)
    finally:
        connection.close()
    scene.over("probe")
    scene.daemon.log.wait("WAITED_FOR|probe|")
    worker = RubyWorker(scene.grid, fresh("type"))
    worker.free()
    guid = scene.grid.task(worker.worker_type)
    assert worker.expect().guid == guid


def test_a_binding_that_rabbitmq_refuses(services: Services, tmp_path: Path, unique: str) -> None:
    """The manager is ready without it, and says everywhere what is missing, as long as it is."""
    with staged(services, tmp_path, unique, "--bind=amq.absent:task") as scene:
        scene.told("optional", "403 ACCESS_REFUSED")
        assert scene.away("optional")["about"] == "binding to exchange amq.absent with key task"
        assert scene.http.get("/ready").status == 200
        status = " ".join(scene.tefctl("status").split())
        assert "optional binding to exchange amq.absent with key task" in status
        lasting = "WAITING_FOR|optional binding to exchange amq.absent with key task: 403 ACCESS_REFUSED"
        scene.daemon.log.wait(lasting)


HANG = """spawn(fun() ->
    {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)),
    erlang:suspend_process(amqqueue:get_pid(Queue)),
    register({name}, self()),
    receive go_on -> ok end
end)."""


def test_a_queue_hangs(scene: Scene) -> None:
    """The broker is well, and its queue answers nothing: that is told, and all goes on afterwards."""
    name = f"hang_{scene.daemon.pid}"
    rabbitmqctl(scene.services, "eval", HANG.format(queue=scene.daemon.queue, name=name))
    try:
        scene.told("probe", "RabbitMQ does not confirm that it has it")
        scene.daemon.log.wait("WAITING_FOR|probe: ")
        scene.daemon.log.wait("BROKER_WAITING|consumer|", timeout=TOLD)
        scene.told("consumer", "no answer within 10 s")
    finally:
        rabbitmqctl(scene.services, "eval", f"{name} ! go_on.")
    scene.over("probe")
    scene.over("consumer")
    worker = RubyWorker(scene.grid, fresh("type"))
    worker.free()
    guid = scene.grid.task(worker.worker_type)
    assert worker.expect().guid == guid


# --- a queue that takes nothing ---


def test_a_rejected_queue_that_takes_nothing(scene: Scene) -> None:
    """It is named with what RabbitMQ answers; everything else goes on."""
    queue = f"{scene.daemon.queue}.rejected"
    scene.grid.channel.queue_delete(queue)
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    scene.grid.channel.queue_declare(queue, durable=True, arguments=full)
    for _ in range(3):
        scene.grid.send(b"bad")
    scene.told("queue", "nacked")
    assert scene.away("queue")["about"] == queue
    assert scene.http.get("/ready").status == 200
    assert f"queue {queue}" in scene.tefctl("status")
    worker = RubyWorker(scene.grid, fresh("type"))
    worker.free()
    guid = scene.grid.task(worker.worker_type)
    assert worker.expect().guid == guid
    scene.grid.channel.queue_delete(queue)
    scene.over("queue")


# --- Etcd ---


class Refusing(BaseHTTPRequestHandler):
    """Answers whatever is asked with the same refusal."""

    protocol_version = "HTTP/1.1"
    status, text = 403, "no"

    def do_POST(self) -> None:
        """Refuse."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text.encode())

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, '{"error":"etcdserver: permission denied","code":7}'),
        (400, '{"error":"etcdserver: user name is empty","code":3}'),
        (404, "404 page not found"),
        (503, '{"error":"etcdserver: no leader","code":14}'),
    ],
)
def test_why_etcd_is_of_no_use(
    services: Services, tmp_path: Path, unique: str, status: int, text: str
) -> None:
    """Each refusal looks different, wherever one asks; tasks without resources go."""
    handler = type("Handler", (Refusing,), {"status": status, "text": text})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    own = {"TEF_ETCD_HOST_DEV": "127.0.0.1", "TEF_ETCD_PORT_DEV": str(server.server_port)}
    port = free_ports(1)[0]
    options = (f"--http=tcp:{port}:interface=127.0.0.1", "--etcd-api=v3")
    daemon = Daemon(services, tmp_path, unique, *options, variables=own)
    try:
        with running(daemon):
            scene = Scene(services, daemon, Http(port), Grid(services.amqp_url, daemon.prefix))
            scene.told("etcd", str(status))
            worker = RubyWorker(scene.grid, fresh("type"))
            worker.free()
            held_back = scene.grid.task(worker.worker_type, resources=["r"])
            guid = scene.grid.task(worker.worker_type)
            assert worker.expect().guid == guid
            for said in (scene.tefctl("status"), scene.tefctl("explain", held_back)):
                assert str(status) in said
                assert "tasks that need resources wait" in said
            scene.grid.close()
    finally:
        server.shutdown()
        server.server_close()


def alarm(scene: Scene, action: str) -> None:
    """Let Etcd have no space, or some again."""
    host, port = scene.services.etcd
    body = json.dumps({"action": action, "memberID": "0", "alarm": "NOSPACE"}).encode()
    urllib.request.urlopen(f"http://{host}:{port}/v3/maintenance/alarm", body, timeout=10).close()


def test_etcd_without_space(scene: Scene) -> None:
    """It answers, and takes nothing: a task that needs it is explained in Etcd's words, and goes later."""
    worker = RubyWorker(scene.grid, fresh("type"))
    with makes_resources(APIS["v3"](scene.services.etcd)) as make:
        resource = make(1)
        scene.daemon.log.wait("RESOURCES_READ|")
        alarm(scene, "ACTIVATE")
        try:
            worker.free()
            guid = scene.grid.task(worker.worker_type, resources=[resource.name])
            said = "database space exceeded"
            until(lambda: said in scene.tefctl("explain", guid), "the explanation", TOLD)
            assert said in scene.tefctl("status")
            assert any(said in line for line in scene.daemon.log.events())
            free = scene.grid.task(worker.worker_type)
            received = worker.expect()
            assert received.guid == free
            worker.begin(received)
        finally:
            alarm(scene, "DEACTIVATE")
        worker.finish(received)
        assert worker.expect(90.0).guid == guid


# --- PostgreSQL ---


@contextmanager
def locked(scene: Scene) -> Iterator[None]:
    """Keep everybody from writing tasks."""
    connection = psycopg2.connect(**scene.services.database)
    try:
        with connection.cursor() as cursor:
            table = scene.daemon.table("tasks")
            cursor.execute(f"lock table {table} in exclusive mode")
        yield
    finally:
        connection.close()


def test_a_commit_hangs(scene: Scene) -> None:
    """It is told as what PostgreSQL says of it, by the log and by /ready; all goes on afterwards."""
    worker = RubyWorker(scene.grid, fresh("type"))
    with locked(scene):
        worker.free()
        guid = scene.grid.task(worker.worker_type)
        until(lambda: scene.http.get("/ready").status == 503, "not being ready", TOLD)
        scene.told("database", "statement")
        scene.daemon.log.wait("LEADERSHIP_LOST|")
    assert worker.expect(TOLD).guid == guid
    scene.over("database")


def test_a_database_that_takes_no_writes(scene: Scene) -> None:
    """A database in recovery, or read-only, is named in PostgreSQL's words; tefctl says what it found."""
    name = scene.services.database["dbname"]
    connection = psycopg2.connect(**scene.services.database)
    connection.autocommit = True
    end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    with connection.cursor() as cursor:
        cursor.execute(f"alter database {name} set default_transaction_read_only = on")
        try:
            cursor.execute(f"{end} and application_name like 'tef-manager%%'")
            scene.told("database", "read-only")
            scene.daemon.log.wait("WAITING_FOR|database 127.0.0.1:")
            assert "no manager takes messages from the queue" in scene.tefctl("status")
        finally:
            cursor.execute("set default_transaction_read_only = off")
            cursor.execute(f"alter database {name} reset default_transaction_read_only")
    connection.close()
    scene.over("database")


# --- another manager ---


def test_a_standby_knows_who_is_active(services: Services, scene: Scene, tmp_path: Path) -> None:
    """It says so in its log and at /ready, with since when."""
    port = free_ports(1)[0]
    name = scene.daemon.prefix.removeprefix("judge.")
    standby = Daemon(services, tmp_path / "standby", name, f"--http=tcp:{port}:interface=127.0.0.1")
    try:
        standby.start(ready=False)
        standby.log.wait("WAITING_FOR|another manager is active: tef-manager ")
        http = Http(port)
        until(lambda: http.get("/ready").status == 200, "standing by")
        [outage] = http.get("/ready").json["outages"]
        assert (outage["service"], f"[{scene.daemon.pid}]" in outage["cause"]) == ("standby", True)
        assert "since" in outage["cause"]
        standby.stop()
    finally:
        standby.end()
