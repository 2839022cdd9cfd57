"""A client and worker without tef-manager's code: they send and run tasks, and check that each comes once.

worker.py COUNT [URL]
"""

import json
import re
import sys
import time
import uuid
from pathlib import Path

import pika

PATIENCE = 60.0
"""Seconds without a task after which the test fails."""

TASK_TYPE = "smoke"


def main(count: int, url: str) -> None:
    """Send the tasks, and be their worker until all are done."""
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    queue = f"smoke.{uuid.uuid4().hex}"
    channel.queue_declare(queue, durable=True)

    def tell(**message: object) -> None:
        channel.basic_publish("", "tef.prod.manager", json.dumps(message))

    def say(status: str, **more: object) -> None:
        fields = {"name": queue, "worker_type": TASK_TYPE, "exchange_name": queue, "status": status, **more}
        tell(type="worker_status", **fields)

    guids = [uuid.uuid4().hex for _ in range(count)]
    for guid in guids:
        tell(type="task", task_type=TASK_TYPE, guid=guid, resources=["smoke"])
    say("ready")
    received: list[str] = []
    longest, since = 0.0, time.monotonic()
    for method, _, body in channel.consume(queue, inactivity_timeout=1.0):
        now = time.monotonic()
        if method is None:
            assert now - since < PATIENCE, f"no task for {PATIENCE:g} s; {len(received)} of {count} came"
            say("ready")  # a heartbeat
            continue
        channel.basic_ack(method.delivery_tag)
        longest, since = max(longest, now - since), now
        guid = json.loads(body)["guid"]
        received.append(guid)
        say("working", task=guid)
        say("ready")
        if len(received) == count:
            break
    channel.queue_delete(queue)
    say("offline")
    assert sorted(received) == sorted(guids), "a task came twice, or another one came"
    print(f"{count} tasks reached the worker, each once; longest pause {longest:.2f} s")


def url_in(file: str) -> str:
    """Return RabbitMQ's URL from the manager's settings; a URL that ends in a slash means the vhost "/"."""
    [found] = re.findall(r"^amqp-url = (.*?)/?$", Path(file).read_text(), re.MULTILINE)
    return f"{found}/%2F"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else url_in("/etc/tef-manager/tef-manager.ini"))
