"""The connection to the manager through RabbitMQ, with pika."""

from __future__ import annotations

import json
import logging
import ssl
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException, AMQPConnectorStackTimeout
from pika.exceptions import AMQPError, ChannelClosedByBroker, UnroutableError

from tefmanager.config.config import Config
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.ctl.errors import CtlError, Exit

_NOT_FOUND = 404
_CONTENT_TYPE = "application/json"

_BETWEEN_CONSUMERS = 1.0
_LOOK_AGAIN = 0.1
"""Seconds between two checks, and in which a manager that has become active recreates its consumer."""


class Broker:
    """A connection to RabbitMQ for questions and commands to the manager. All errors are `CtlError`.

    Args:
        channel: an open channel.
        patience: seconds to wait for an answer.

    Attributes:
        config: the manager's configuration.
    """

    def __init__(self, channel: Any, config: Config, patience: float) -> None:
        self.config = config
        self._channel = channel
        self._patience = patience
        self._answers: dict[str, Any] = {}
        self._queue: str | None = None

    @property
    def channel(self) -> Any:
        """The channel, for everything other than questions."""
        return self._channel

    def ask(self, type: str, data: object = None) -> Any:
        """Ask the manager and return its answer; an answer that reports an error is raised."""
        message: dict[str, object] = {"type": type}
        if data is not None:
            message["data"] = data
        # A question is useless once nobody waits for the answer; a command is not.
        lasts = self._patience if type.startswith(("get_", "explain_")) else None
        [answer] = self.send([json.dumps(message).encode()], lasts)
        if isinstance(answer["response"], str):
            raise CtlError(Exit.NO, f"the manager refused: {answer['response']}")
        return answer["response"]

    def send(self, bodies: Sequence[bytes], lasts: float | None = None) -> list[dict[str, Any]]:
        """Send messages to the manager and return its answers, in the same order.

        ``lasts``: seconds after which the broker drops a message that nobody has taken.
        """
        self._need_manager()
        ids = [uuid.uuid4().hex for _ in bodies]
        for correlation_id, body in zip(ids, bodies, strict=True):
            properties = pika.BasicProperties(
                content_type=_CONTENT_TYPE,
                delivery_mode=2,
                reply_to=self._replies(),
                correlation_id=correlation_id,
                expiration=None if lasts is None else str(int(lasts * 1000)),
            )
            self._channel.basic_publish("", self.config.in_queue, body, properties)
        return self._collect(ids)

    def _need_manager(self) -> None:
        found = self.look(self.config.in_queue)
        until = time.monotonic() + _BETWEEN_CONSUMERS
        while not found.consumer_count and time.monotonic() < until:
            self._channel.connection.sleep(_LOOK_AGAIN)
            found = self.look(self.config.in_queue)
        if not found.consumer_count:
            raise CtlError(
                Exit.MANAGER,
                f"no manager takes messages from the queue {self.config.in_queue}"
                f" ({found.message_count} wait in it): no manager runs, or each one waits for a service,"
                " such as PostgreSQL, and says so in its log (WAITING_FOR) and at /ready",
            )

    def _why_silent(self) -> str:
        """Return what RabbitMQ knows about a manager that does not answer."""
        queue = self.config.in_queue
        try:
            found = self.look(queue)
        except CtlError:
            return f"the queue {queue} is gone"
        except AMQPError as error:
            return f"RabbitMQ: {_reason(error)}"
        if not found.consumer_count:
            return f"it no longer takes messages from the queue {queue}"
        if found.message_count:
            return f"it takes messages from the queue {queue}, but {found.message_count} wait there"
        return f"it takes messages from the queue {queue}, and may wait for PostgreSQL: see /ready"

    def look(self, queue: str) -> Any:
        """Return how many messages and consumers a queue of the manager has."""
        try:
            return self._channel.queue_declare(queue, passive=True).method
        except ChannelClosedByBroker as error:
            text = f"no manager has ever run here, or the name prefix is wrong: {error.reply_text}"
            raise CtlError(Exit.MANAGER, text) from None

    def _replies(self) -> str:
        """Return the queue for answers, which exists as long as the connection."""
        if self._queue is None:
            self._queue = str(self._channel.queue_declare("", exclusive=True).method.queue)
            self._channel.basic_consume(self._queue, self._answered, auto_ack=True)
        return self._queue

    def _answered(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        self._answers[properties.correlation_id] = json.loads(body)

    def _collect(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Wait until all messages have been answered; patience starts again with each answer."""
        missing = set(ids)
        known, until = len(self._answers), time.monotonic() + self._patience
        while missing:
            # It returns after any frame, not only after answers.
            self._channel.connection.process_data_events(time_limit=max(0.0, until - time.monotonic()))
            missing.difference_update(self._answers)
            if missing and not self._channel.is_open:
                text = (
                    f"RabbitMQ does not allow us to publish to {self.config.in_queue}, or to read answers"
                )
                raise CtlError(Exit.BROKER, text)
            if len(self._answers) != known:
                known, until = len(self._answers), time.monotonic() + self._patience
            elif missing and time.monotonic() >= until:
                text = f"the manager did not answer {len(missing)} of {len(ids)} messages"
                raise CtlError(Exit.MANAGER, f"{text} within {self._patience:g} s: {self._why_silent()}")
        return [self._answers.pop(each) for each in ids]


@contextmanager
def connected(config: Config, patience: float) -> Iterator[Broker]:
    """Connect to the first broker that accepts us."""
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # pika's errors say the same
    try:
        connection = pika.BlockingConnection([_parameters(each, patience) for each in config.amqp])
    except (AMQPError, AMQPConnectorException, OSError, ssl.SSLError) as error:
        places = "; ".join(str(endpoint) for endpoint in config.amqp)
        raise CtlError(Exit.BROKER, f"RabbitMQ at {places}: {_reason(error)}") from None
    try:
        yield Broker(connection.channel(), config, patience)
    except UnroutableError:
        raise CtlError(Exit.BROKER, "RabbitMQ has no queue for this message") from None
    except AMQPError as error:
        raise CtlError(Exit.BROKER, f"RabbitMQ: {_reason(error)}") from None
    finally:
        if connection.is_open:
            connection.close()


def _parameters(endpoint: AmqpEndpoint, patience: float) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        endpoint.host,
        endpoint.port,
        endpoint.vhost,
        pika.PlainCredentials(endpoint.user, endpoint.password),
        ssl_options=_ssl_options(endpoint) if endpoint.tls else None,
        socket_timeout=patience,
        stack_timeout=patience,  # for everything up to the AMQP handshake
        blocked_connection_timeout=patience,
        heartbeat=0,  # pika answers heartbeats only while it waits for messages
    )


def _ssl_options(endpoint: AmqpEndpoint) -> pika.SSLOptions:
    files = endpoint.tls_files
    context = ssl.create_default_context(cafile=files.ca)
    if files.cert is not None:
        context.load_cert_chain(files.cert, files.key)
    if endpoint.options.get("verify") == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    name = endpoint.options.get("server_name_indication") or endpoint.host
    return pika.SSLOptions(context, name)


def _reason(error: BaseException) -> str:
    """Return the innermost reason of one of pika's errors, in words."""
    inner = getattr(error, "exception", None) or (error.args[0] if error.args else None)
    if isinstance(inner, BaseException) and inner is not error:
        return _reason(inner)
    if isinstance(error, AMQPConnectorStackTimeout):
        return "the server there does not speak AMQP, or is too slow"
    return str(error) or type(error).__name__
