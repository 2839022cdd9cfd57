"""A client and a worker that share no code with the manager, at RabbitMQ's limits. For script/test-deb.

broker_limits.py dropped              checks that RabbitMQ drops messages that go back too often
broker_limits.py send COUNT [SIZE]    sends tasks
broker_limits.py receive COUNT        does them, and checks that each task that was sent came once
broker_limits.py large                sends and does a task of the largest size that RabbitMQ accepts
broker_limits.py others COUNT         sends and does others while those wait
"""

import json
import re
import sys
import time
import uuid
from pathlib import Path

import pika

PATIENCE = 120.0
"""Seconds without a task after which the test fails."""

LARGEST = 16 * 1024 * 1024
"""The largest message that RabbitMQ 4 accepts by default, in bytes."""

TASK_TYPE = "limits"
SENT = Path("/root/limits-sent")
"""The guids of tasks that were sent and not received yet."""


class Client:
    """A connection in the manager's vhost."""

    def __init__(self) -> None:
        settings = Path("/etc/tef-manager/limits.ini").read_text()
        [url] = re.findall(r"^amqp-url = (.*)", settings, re.MULTILINE)
        parameters = pika.URLParameters(url)
        parameters.heartbeat = 0
        self.channel = pika.BlockingConnection(parameters).channel()
        self.channel.confirm_delivery()

    def tell(self, **message: object) -> None:
        """Send the manager a message; return when RabbitMQ has confirmed it."""
        kept = pika.BasicProperties(delivery_mode=2)
        self.channel.basic_publish("", "tef.dev.manager", json.dumps(message).encode(), kept)

    def task(self, task_type: str, size: int) -> str:
        """Send a task whose message has so many bytes."""
        task = {"type": "task", "task_type": task_type, "guid": uuid.uuid4().hex, "task_data": ""}
        self.tell(**{**task, "task_data": "x" * max(size - len(json.dumps(task)), 0)})
        return str(task["guid"])

    def work(self, task_type: str, count: int) -> list[bytes]:
        """Work as a worker until so many tasks are done; return their messages."""
        queue = f"limits.{uuid.uuid4().hex}"
        self.channel.queue_declare(queue, durable=True)
        worker = {"type": "worker_status", "name": queue, "worker_type": task_type, "exchange_name": queue}
        self.tell(**worker, status="ready")
        found: list[bytes] = []
        since = time.monotonic()
        for method, _, body in self.channel.consume(queue, inactivity_timeout=1.0):
            if method is None:
                waited = time.monotonic() - since
                assert waited < PATIENCE, f"no task for {PATIENCE:g} s; {len(found)} of {count} came"
                self.tell(**worker, status="ready")  # a heartbeat
                continue
            self.channel.basic_ack(method.delivery_tag)
            found.append(body)
            since = time.monotonic()
            self.tell(**worker, status="working", task=json.loads(body)["guid"])
            self.tell(**worker, status="ready")
            if len(found) == count:
                break
        self.tell(**worker, status="offline")
        return found


def dropped(client: Client) -> None:
    """Give a message back again and again, until RabbitMQ drops it."""
    queue = client.channel.queue_declare("limits.dropped", durable=True).method.queue
    client.channel.basic_publish("", queue, b"")
    times = 0
    while (method := client.channel.basic_get(queue)[0]) is not None:
        client.channel.basic_nack(method.delivery_tag, requeue=True)
        times += 1
        assert times < 100, "a message went back 100 times, and is still there"


def send(client: Client, count: int, size: int) -> None:
    """Send tasks, and write down their guids."""
    SENT.write_text("".join(f"{client.task(TASK_TYPE, size)}\n" for _ in range(count)))


def receive(client: Client, count: int) -> None:
    """Do the tasks that were sent."""
    guids = [json.loads(body)["guid"] for body in client.work(TASK_TYPE, count)]
    assert sorted(guids) == sorted(SENT.read_text().split()), "a task came twice, or another one came"


def large(client: Client) -> None:
    """Send and do a task of the largest allowed size."""
    guid = client.task(f"{TASK_TYPE}.large", LARGEST)
    [body] = client.work(f"{TASK_TYPE}.large", 1)
    assert (json.loads(body)["guid"], len(body)) == (guid, LARGEST)


def others(client: Client, count: int) -> None:
    """Send and do tasks while older ones wait that can't be sent."""
    guids = [client.task(TASK_TYPE, 0) for _ in range(count)]
    found = [json.loads(body)["guid"] for body in client.work(TASK_TYPE, count)]
    assert found == guids, "a task came twice, or in another order"


def main(what: str, *numbers: int) -> None:
    """Run one of the commands."""
    client = Client()
    match what, numbers:
        case "dropped", ():
            dropped(client)
        case "send", (count, *size):
            send(client, count, *size or [20_000])
        case "receive", (count,):
            receive(client, count)
        case "large", ():
            large(client)
        case "others", (count,):
            others(client, count)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
