"""An example of a worker: it runs the shell command in ``task_data`` and publishes the result.

    export TEF_ENV=dev TEF_AMQP_URL_DEV=amqp://guest:guest@127.0.0.1:5672/
    python -m tefmanager.demo.worker --type shell

It speaks as the Ruby workers do (``docs/protocol.md``). To the manager's queue it says

* ``idle`` when it is free: from then on the manager may send a task to the worker's own queue;
* ``working`` when it has begun, ``task_complete`` when the result is published, and ``idle`` again;
* its status again every 20 seconds, since a worker that is silent for long counts as missing;
* ``offline`` when it leaves. At SIGTERM it finishes its task and leaves.

To write another worker, only pika and JSON are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pika

HEARTBEAT = 20.0
"""Seconds after which the worker repeats its status."""


def shell(command: str) -> dict[str, Any]:
    """Run a command; the result is its output."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, stdin=subprocess.DEVNULL)
    return {"output": done.stdout.decode("utf-8", "replace"), "exit_status": done.returncode}


def report(command: str) -> dict[str, Any]:
    """Run a command; the result is the size of its output."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, stdin=subprocess.DEVNULL)
    lines = done.stdout.count(b"\n")
    return {"lines": lines, "bytes": len(done.stdout), "exit_status": done.returncode}


TYPES: dict[str, Callable[[str], dict[str, Any]]] = {"shell": shell, "report": report}
"""What a worker of each type does with a command."""


class Worker:
    """A worker that runs one task at a time.

    Args:
        connection: to RabbitMQ.
        env: ``dev``, ``test`` or ``prod``.
        worker_type: one of `TYPES`; it gets tasks with this ``task_type``.
        name: its name in the list of workers; two workers must not share it.
    """

    def __init__(self, connection: Any, env: str, worker_type: str, name: str) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._type = worker_type
        self._name = name
        self._manager = f"tef.{env}.manager"
        self._queue = f"tef.{env}.worker.{socket.gethostname()}.{os.getpid()}"
        self._results = f"tef.{env}.{worker_type}.worker_generated_messages"
        self._status = "idle"
        self._leaving = False

    def run(self) -> None:
        """Work until `leave` is called."""
        self._channel.queue_declare(self._manager, durable=True)
        self._channel.queue_declare(self._queue, durable=True)
        self._channel.exchange_declare(self._results, "topic", durable=True)
        # Acknowledged on arrival: if the worker dies, the manager takes care of its task.
        self._channel.basic_consume(self._queue, self._begin, auto_ack=True)
        self._heartbeat()
        while not (self._leaving and self._status == "idle"):
            self._connection.process_data_events(time_limit=0.2)
        self._say("offline")
        self._channel.queue_delete(self._queue)

    def leave(self) -> None:
        """Finish the present task and take no other."""
        self._leaving = True

    def _heartbeat(self) -> None:
        self._say(self._status)
        self._connection.call_later(HEARTBEAT, self._heartbeat)

    def _begin(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self._status = "working"
        self._say("working")
        # In a thread, so that the connection stays alive however long the command takes.
        threading.Thread(target=self._work, args=(json.loads(body),), daemon=True).start()

    def _work(self, task: dict[str, Any]) -> None:
        started, clock = time.time(), time.monotonic()
        result = TYPES[self._type](task["task_data"]["command"])
        result |= {"worker": self._name, "started": started, "seconds": time.monotonic() - clock}
        self._connection.add_callback_threadsafe(lambda: self._end_task(task, result))

    def _end_task(self, task: dict[str, Any], result: dict[str, Any]) -> None:
        task["task_data"]["result"] = (
            result  # those who collect results expect the rest of the task unchanged
        )
        self._publish(self._results, "task", task)
        self._say("task_complete")
        self._status = "idle"
        if not self._leaving:
            self._say("idle")

    def _say(self, status: str) -> None:
        about = {"name": self._name, "worker_type": self._type, "exchange_name": self._queue}
        self._publish("", self._manager, {"type": "worker_status", **about, "status": status})

    def _publish(self, exchange: str, routing_key: str, message: dict[str, Any]) -> None:
        body = json.dumps(message, ensure_ascii=False).encode()
        self._channel.basic_publish(exchange, routing_key, body, pika.BasicProperties(delivery_mode=2))


def main() -> None:
    """Run a worker as the command line and the environment say."""
    parser = argparse.ArgumentParser(prog="python -m tefmanager.demo.worker")
    parser.add_argument("--type", choices=TYPES, required=True)
    parser.add_argument("--name", help="default: type, host and process id")
    options = parser.parse_args()
    env = os.environ.get("TEF_ENV", "dev").lower()
    url = os.environ.get(f"TEF_AMQP_URL_{env.upper()}")
    if not url:
        parser.error(f"TEF_AMQP_URL_{env.upper()} is not set")
    name = options.name or f"{options.type}.{socket.gethostname()}.{os.getpid()}"
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        worker = Worker(connection, env, options.type, name)
        signal.signal(signal.SIGTERM, lambda *_: worker.leave())
        worker.run()


if __name__ == "__main__":
    main()
