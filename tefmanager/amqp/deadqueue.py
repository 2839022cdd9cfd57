"""Goes through one of the manager's queues once: takes messages out, and moves all others to its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

from twisted.internet.defer import Deferred, DeferredList, DeferredLock, TimeoutError
from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.codec import TableError, decode_table
from tefmanager.amqp.declare import NOT_FOUND
from tefmanager.amqp.delegate import why
from tefmanager.amqp.frames import Properties, ack_frames
from tefmanager.amqp.lookups import detached
from tefmanager.amqp.unasked import ChannelEvents, NoChannel
from tefmanager.interfaces.amqp import Delivered, Lying, Message, Take, Tell

PREFETCH = 100
"""How many messages RabbitMQ may deliver ahead while one is looked at."""

PATIENCE = 2.0
"""Seconds to wait for the next message; if none comes, somebody else has it."""

CONSUMER = "tef-manager dead"

MARK = "x-tef-walk"
"""The header of messages that were put back. Its value identifies the walk."""

_Came: TypeAlias = tuple[int, Properties, bytes]
"""A delivery tag, and the message."""

_Ack: TypeAlias = Callable[[list[tuple[int, bool]]], None]
"""Acknowledges messages by their tags, each with whether all earlier ones are acknowledged too."""

_NO_ANSWER = "RabbitMQ closed the channel"


class _Stuck(Exception):
    """The walk can't continue; the text says why."""


class Connection(Protocol):
    """What a walk needs of the publisher."""

    async def send(self, queue: bytes, message: Message, tell: Tell = ...) -> Delivered:
        """See `IPublisher.send`."""

    async def ask(
        self, ask: Callable[[AmqpProtocol], Awaitable[str | None]], refused: str | None
    ) -> str | None:
        """See `Publisher.ask`."""

    def spare_channel(self, protocol: AmqpProtocol) -> int:
        """See `Publisher.spare_channel`."""


class _Inbox(ChannelEvents):
    """Messages that were delivered and have not been looked at yet."""

    def __init__(self) -> None:
        self._came: deque[_Came] = deque()
        self._waiting: Deferred[None] | None = None
        self._lost: str | None = None

    def delivered(self, tag: int, redelivered: bool, properties: Properties, body: bytes) -> None:
        self._came.append((tag, properties, body))
        self._wake()

    def closed(self, reason: str) -> None:
        self._lost = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def wait(self, clock: Any) -> bool:
        """Wait for a message; return False if none comes in time. Raises `Closed`."""
        if not self._came and self._lost is None:
            self._waiting = Deferred()
            try:
                await self._waiting.addTimeout(PATIENCE, clock)
            except TimeoutError:
                self._waiting = None
        if self._lost is not None:
            raise Closed(self._lost)
        return bool(self._came)

    def all(self, at_most: int | None = None) -> list[_Came]:
        """Return the messages that were delivered and not returned yet, at most so many."""
        count = len(self._came) if at_most is None else min(at_most, len(self._came))
        return [self._came.popleft() for _ in range(count)]


class Walks:
    """Goes through queues, one walk after the other.

    What stays in a queue goes to its end as a new message, which is confirmed before the old one is
    acknowledged. Giving the old one back would be simpler, but a quorum queue counts that and drops a
    message that was given back too often.

    Args:
        connection: gives access to RabbitMQ.
    """

    def __init__(self, reactor: Any, connection: Connection) -> None:
        self._reactor = reactor
        self._connection = connection
        self._one_at_a_time = DeferredLock()

    async def sift(self, queue: bytes, take: Take, at_most: int | None) -> str | None:
        """See `IPublisher.sift`."""
        return await detached(self._in_turn(queue, take, at_most))

    async def _in_turn(self, queue: bytes, take: Take, at_most: int | None) -> str | None:
        await self._one_at_a_time.acquire()  # two walks at once would hide messages from each other
        try:
            walk = _Walk(self._reactor, self._connection, queue, take, at_most)
            return await self._connection.ask(walk.through, refused=_NO_ANSWER)
        finally:
            self._one_at_a_time.release()


class _Walk:
    """One walk through a queue. When a message comes that it put back, which has its mark, it ends."""

    def __init__(
        self, reactor: Any, connection: Connection, queue: bytes, take: Take, at_most: int | None
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._queue = queue
        self._take = take
        self._at_most = at_most
        self._mark = uuid4().hex

    async def through(self, protocol: AmqpProtocol) -> str | None:
        """Walk to the end; return None, or why that failed. Never repeated on another connection."""
        try:
            return await self._through(protocol, self._connection.spare_channel(protocol))
        except (NoChannel, Closed, _Stuck) as error:
            return why(error) if str(error) else _NO_ANSWER

    async def _through(self, protocol: AmqpProtocol, number: int) -> str | None:
        inbox = _Inbox()
        try:
            channel = await protocol.open_channel(number, inbox)
            there = await _count(channel, self._queue)
            count = there if self._at_most is None else min(there, self._at_most)
            if not count:
                return None
            await channel.basic_qos(prefetch_count=min(PREFETCH, count))
            await channel.basic_consume(queue=self._queue, consumer_tag=CONSUMER)
            missing = await self._look_at(inbox, count, _acks(protocol, number))
            await channel.basic_cancel(consumer_tag=CONSUMER)
            # Further deliveries would be given back, which the queue counts.
            more = [(came, not self._is_marked(came[1])) for came in inbox.all()]
            await self._deal(more, _acks(protocol, number))
            return f"somebody else has {missing} of its messages" if missing else None
        finally:
            await _close(protocol, number)

    async def _look_at(self, inbox: _Inbox, count: int, ack: _Ack) -> int:
        """Look at so many messages; return how many of them did not come."""
        while count:
            if not await inbox.wait(self._reactor):
                return count
            batch = inbox.all(count)
            fresh = list(takewhile(lambda came: not self._is_marked(came[1]), batch))
            await self._deal([(came, came in fresh) for came in batch], ack)
            if len(fresh) < len(batch):
                return 0
            count -= len(batch)
        return 0

    def _is_marked(self, properties: Properties) -> bool:
        return (_headers(properties) or {}).get(MARK) == self._mark

    async def _deal(self, batch: list[tuple[_Came, bool]], ack: _Ack) -> None:
        """Offer messages with True for removal; put back all others, and those that are not removed."""
        dealt = [Deferred.fromCoroutine(self._deal_one(*each)) for each in batch]
        results: list[tuple[bool, Any]] = await DeferredList(dealt, consumeErrors=True)
        failed = [result for _, result in results if isinstance(result, Failure)]
        if not failed and batch:
            # A quorum queue may lose the last of very many single acknowledgements.
            ack([(batch[-1][0][0], True)])
        elif failed:
            ack([(came[0], False) for (came, _), (done, _) in zip(batch, results, strict=True) if done])
            failed[0].raiseException()

    async def _deal_one(self, came: _Came, look: bool) -> None:
        _, properties, body = came
        if not (look and self._take(Lying(body, _headers(properties), properties.headers or b""))):
            await self._put_back(properties, body)

    async def _put_back(self, properties: Properties, body: bytes) -> None:
        message = Message(
            body,
            properties.correlation_id,
            properties.reply_to,
            properties.content_type,
            headers={MARK: self._mark},
            envelope=properties.envelope,
            original=properties.headers,
        )
        reasons: list[str] = []
        outcome = await self._connection.send(self._queue, message, reasons.append)
        if outcome is not Delivered.CONFIRMED:
            raise _Stuck(f"a message was {outcome}: {'; '.join(reasons)}")


def _acks(protocol: AmqpProtocol, number: int) -> _Ack:
    """Return a function that acknowledges messages."""
    return lambda acks: protocol.transport.write(ack_frames(number, acks))


async def _count(channel: Any, queue: bytes) -> int:
    """Return how many messages wait in a queue; 0 if it does not exist."""
    try:
        return int((await channel.queue_declare(queue=queue, passive=True)).message_count)
    except ChannelClosed as error:
        if error.args[0].reply_code == NOT_FOUND:
            return 0
        raise


async def _close(protocol: AmqpProtocol, number: int) -> None:
    channel = protocol.channels.get(number)
    try:
        if channel is not None and not channel.closed and protocol.usable:
            await channel.channel_close(200, "", 0, 0)
    finally:
        protocol.drop_channel(number)


def _headers(properties: Properties) -> dict[str, object] | None:
    """Return a message's headers, or None if they can't be read."""
    try:
        return decode_table(properties.headers) if properties.headers else {}
    except TableError:
        return None
