"""How long a task takes from its publisher to an idle worker, seen by pika, the daemon being on a sandbox.

Prints median, 90th and 99th percentile in milliseconds, for tasks without resources and with three::

    python benchmarks/latency.py [--tasks 300] [--etcd-api v2|v3]

Client and servers share the machine with the daemon; all is on loopback. The servers wait for the disk as
in production, unless ``--fast`` is given.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from pathlib import Path
from typing import Any

import pika
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tefmanager.sandbox import Addresses, Sandbox

ROOT = Path(__file__).parents[1]
PREFIX = "tef.latency"
RESOURCES = ("database", "licence", "server")
WARM_UP = 20


class Client:
    """A worker that is idle, and the one who sends it tasks."""

    def __init__(self, amqp_url: str) -> None:
        parameters = pika.URLParameters(amqp_url + "%2f")
        parameters.heartbeat = 0
        self._connection = pika.BlockingConnection(parameters)
        self._channel = self._connection.channel()
        self._queue = f"{PREFIX}.manager"
        self._inbox: deque[float] = deque()
        self._channel.queue_declare(self._queue, durable=True)
        self._channel.queue_declare("tef.latency.worker", durable=True)
        self._channel.basic_consume("tef.latency.worker", self._arrived, auto_ack=True)

    def _arrived(self, *message: Any) -> None:
        self._inbox.append(time.perf_counter())

    def _send(self, **message: Any) -> None:
        properties = pika.BasicProperties(delivery_mode=2)
        self._channel.basic_publish("", self._queue, json.dumps(message).encode(), properties)

    def _say(self, status: str) -> None:
        self._send(
            type="worker_status",
            name="latency",
            worker_type="latency",
            exchange_name="tef.latency.worker",
            status=status,
        )

    def measure(self, count: int, resources: tuple[str, ...]) -> list[float]:
        """Return the milliseconds that each of so many tasks took, one after the other."""
        self._say("idle")
        return [self._one(f"{len(resources)}-{at}", resources) for at in range(count)]

    def _one(self, guid: str, resources: tuple[str, ...]) -> float:
        began = time.perf_counter()
        self._send(type="task", task_type="latency", guid=guid, resources=resources, task_data="ä")
        while not self._inbox:
            self._connection.process_data_events(time_limit=5)
        took = self._inbox.popleft() - began
        for status in ("working", "task_complete", "idle"):
            self._say(status)
        self._connection.sleep(0.02)  # it is an idle manager that is measured
        return took * 1000


def make_resources(etcd: tuple[str, int], api: str) -> None:
    """Make resources that have room for everybody."""
    for name in RESOURCES:
        for field, value in (("ref_count", "0"), ("ref_limit", "4"), ("available", "1")):
            put(etcd, api, f"/tef/dev/resources/{name}/{field}", value)


def put(etcd: tuple[str, int], api: str, key: str, value: str) -> None:
    """Set a key in Etcd."""
    host, port = etcd
    if api == "v2":
        body, path, method = f"value={value}".encode(), f"/v2/keys{key}", "PUT"
    else:
        pair = {"key": base64.b64encode(key.encode()), "value": base64.b64encode(value.encode())}
        body = json.dumps({name: text.decode() for name, text in pair.items()}).encode()
        path, method = "/v3/kv/put", "POST"
    request = urllib.request.Request(f"http://{host}:{port}{path}", body, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def plugin_folder(folder: Path) -> Path:
    """Return a folder in which twistd finds the plugin of this checkout, installed or not."""
    target = folder / "plugins" / "twisted" / "plugins"
    target.mkdir(parents=True)
    shutil.copy(ROOT / "twisted_plugin" / "tef_manager.py", target)
    return folder / "plugins"


def start_daemon(found: Addresses, api: str) -> subprocess.Popen[bytes]:
    """Start the daemon, and return when it reigns."""
    host, port = found.etcd
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{plugin_folder(found.folder)}:{ROOT}",
        "TEF_ENV": "dev",
        "TEF_AMQP_URL_DEV": found.amqp_url,
        "TEF_MANAGER_DB_CONFIG": str(found.folder),
        "TEF_ETCD_HOST_DEV": host,
        "TEF_ETCD_PORT_DEV": str(port),
    }
    twistd = str(Path(sys.executable).with_name("twistd"))
    options = ["-n", "--pidfile=", "tef-manager", f"--name-prefix={PREFIX}", f"--etcd-api={api}"]
    process = subprocess.Popen(
        [twistd, *options], env=environ, cwd=found.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"BROKER_CONNECTED|consumer" in line:
            break
    else:
        raise SystemExit("the daemon has ended")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return process


def run(found: Addresses, arguments: argparse.Namespace) -> None:
    """Measure, and print."""
    make_resources(found.etcd, arguments.etcd_api)
    daemon = start_daemon(found, arguments.etcd_api)
    try:
        client = Client(found.amqp_url)
        for resources in ((), RESOURCES):
            times = client.measure(arguments.tasks + WARM_UP, resources)[WARM_UP:]
            show(len(resources), times, arguments.etcd_api)
    finally:
        daemon.terminate()
        daemon.wait()


def show(resources: int, times: list[float], api: str) -> None:
    """Print one line."""
    cuts = statistics.quantiles(times, n=100)
    sys.stdout.write(
        f"{resources} resources ({api}): median {statistics.median(times):.1f} ms, "
        f"90 % {cuts[89]:.1f} ms, 99 % {cuts[98]:.1f} ms, {len(times)} tasks\n"
    )


def main() -> None:
    """Start a sandbox, measure on it, and remove it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--etcd-api", choices=("v2", "v3"), default="v3")
    parser.add_argument("--fast", action="store_true", help="the servers don't wait for the disk")
    arguments = parser.parse_args()
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    failures: list[Any] = []

    async def measured() -> None:
        sandbox = Sandbox(reactor, fast=arguments.fast)
        try:
            found = await sandbox.start()
            await deferToThread(run, found, arguments)
        finally:
            await sandbox.stop()

    def begin() -> None:
        done = Deferred.fromCoroutine(measured())
        done.addErrback(failures.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    for failure in failures:
        failure.raiseException()


if __name__ == "__main__":
    main()
