"""What workers and senders do alike: connect to RabbitMQ again and again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

BROKEN = (AMQPError, AMQPConnectorException, AssertionError, OSError, ValueError)
"""What pika raises when a connection is cut: at some points it has no error of its own for that."""

PAUSE = 0.3
"""Seconds between two attempts to connect."""


class FieldProgram(ABC):
    """A program that lives on RabbitMQ and outlives its absence.

    Args:
        url: of RabbitMQ, with the vhost.
    """

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        # Short ones, so that a network that went silent is left soon.
        self._parameters.heartbeat = 4
        self._parameters.socket_timeout = 4
        self._parameters.stack_timeout = 6
        self._parameters.blocked_connection_timeout = 20

    def run(self) -> None:
        """Do the program's work until it is done, on as many connections as that takes."""
        while not self.done():
            try:
                with pika.BlockingConnection(self._parameters) as connection:
                    self.serve(connection)
            except BROKEN:
                time.sleep(PAUSE)

    @abstractmethod
    def done(self) -> bool:
        """Tell whether there is nothing more to do."""

    @abstractmethod
    def serve(self, connection: Any) -> None:
        """Work on a connection, until it breaks or nothing is left to do."""
