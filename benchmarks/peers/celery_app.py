"""Celery: RabbitMQ, prefork pool; messages are acknowledged when their task is done."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.peers.record import done
from benchmarks.peers.submit import submit

app = Celery("bench", broker=os.environ["BENCH_AMQP_URL"] + "/")
app.conf.update(
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_acks_late=True,
    task_default_delivery_mode="persistent",
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": os.environ["BENCH_CONFIRM"] == "yes"},
    worker_send_task_events=False,
)


@app.task(name="bench.task")
def task(number: int) -> None:
    """Only count."""
    done(number)


if __name__ == "__main__":
    submit(task.delay)
