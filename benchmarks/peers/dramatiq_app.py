"""dramatiq: RabbitMQ, threads."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.peers.record import done
from benchmarks.peers.submit import submit

broker = RabbitmqBroker(
    url=os.environ["BENCH_AMQP_URL"] + "%2f", confirm_delivery=os.environ["BENCH_CONFIRM"] == "yes"
)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=os.environ["BENCH_QUEUE"], actor_name="task")
def task(number: int) -> None:
    """Only count."""
    done(number)


if __name__ == "__main__":
    submit(task.send)
    broker.close()
