"""A client that publishes tasks as fast as pika can, and now and then asks for the workers.

Prints, as JSON, when it began and ended, and the time of each question.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import pika

from benchmarks.grid import bodies

QUESTION = b'{"type":"get_workers"}'


def publish(
    channel: pika.adapters.blocking_connection.BlockingChannel, options: argparse.Namespace
) -> None:
    """Publish everything, and print the times."""
    tasks = [bodies.task(number) for number in range(options.count)]
    kind = "application/octet-stream"
    plain = pika.BasicProperties(content_type=kind, delivery_mode=2, priority=0)
    asked = []
    began = time.monotonic()
    for number, body in enumerate(tasks, 1):
        channel.basic_publish("", options.queue, body, plain)
        if options.reply_to and number % options.every == 0:
            asked.append(time.time())
            asking = pika.BasicProperties(reply_to=options.reply_to, correlation_id=str(number))
            channel.basic_publish("", options.queue, QUESTION, asking)
    channel.connection.process_data_events()
    sys.stdout.write(json.dumps({"first": began, "last": time.monotonic(), "asked": asked}) + "\n")


def main() -> None:
    """Connect, publish, close."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("queue")
    parser.add_argument("count", type=int)
    parser.add_argument("--reply-to", default="", help="ask for the workers, to be answered here")
    parser.add_argument("--every", type=int, default=1000, help="after so many tasks each")
    options = parser.parse_args()
    with pika.BlockingConnection(pika.URLParameters(options.url)) as connection:
        publish(connection.channel(), options)


if __name__ == "__main__":
    main()
