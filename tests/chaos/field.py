"""What workers and senders share: connecting to RabbitMQ again and again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

BROKEN = (AMQPError, AMQPConnectorException, AssertionError, OSError, ValueError)
"""What pika raises when a connection is cut: sometimes it has no specific error for that."""

PAUSE = 0.3
"""Seconds between two attempts to connect."""


class FieldProgram(ABC):
    """A program that uses RabbitMQ and survives its outages.

    Args:
        url: RabbitMQ's URL, with the vhost.
    """

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        # Short heartbeats, so that a silent network is noticed soon.
        self._parameters.heartbeat = 4
        self._parameters.socket_timeout = 4
        self._parameters.stack_timeout = 6
        self._parameters.blocked_connection_timeout = 20

    def run(self) -> None:
        """Do the program's work to its end, on as many connections as that takes."""
        while not self.done():
            try:
                with pika.BlockingConnection(self._parameters) as connection:
                    self.serve(connection)
            except BROKEN:
                time.sleep(PAUSE)

    @abstractmethod
    def done(self) -> bool:
        """Tell whether all work is done."""

    @abstractmethod
    def serve(self, connection: Any) -> None:
        """Work on a connection until it breaks or all work is done."""
