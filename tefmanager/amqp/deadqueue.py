"""The dead queue: taking out of it what is submitted again, or dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from txamqp.client import Closed
from zope.interface import implementer

from tefmanager.amqp.codec import TableError, decode_table
from tefmanager.amqp.copies import without_routes
from tefmanager.amqp.events import ChannelEvents, NoChannel
from tefmanager.amqp.frames import Properties, ack_frames
from tefmanager.amqp.lookups import detached
from tefmanager.amqp.protocol import AmqpProtocol
from tefmanager.amqp.publisher import Publisher
from tefmanager.interfaces import DeadQueueLost, Delivered, IDeadQueue, Message
from tefmanager.messages import guid_of

PREFETCH = 20
"""Messages that are on their way to us while one is looked at."""

PATIENCE = 2.0
"""Seconds after which no further message is waited for: somebody else has it."""

CONSUMER = "tef-manager dead"
GUID = "x-tef-guid"

Act: TypeAlias = Callable[[Message], Awaitable[None]]


class _Inbox(ChannelEvents):
    """Messages that have come and are not looked at yet."""

    def __init__(self) -> None:
        self._came: deque[tuple[int, Properties, bytes]] = deque()
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

    def __len__(self) -> int:
        return len(self._came)

    async def next(self, clock: Any) -> tuple[int, Properties, bytes] | None:
        """Return the next message, or None where none comes. Raises `Closed`."""
        if not self._came and self._lost is None:
            self._waiting = Deferred()
            try:
                await self._waiting.addTimeout(PATIENCE, clock)
            except TimeoutError:
                self._waiting = None
                return None
        if self._lost is not None:
            raise Closed(self._lost)
        return self._came.popleft()


@implementer(IDeadQueue)
class DeadQueue:
    """Goes through the dead queue, each message once.

    What stays in it goes to its end, as a new message that is there before the old one is acknowledged. To
    give it back would be simpler; but a quorum queue counts that, and drops a message that was given back
    too often.

    Args:
        publisher: its connection is used.
        queue: the dead queue.
        own: the manager's queue, which tasks are submitted to.
    """

    def __init__(self, reactor: Any, publisher: Publisher, queue: bytes, own: bytes) -> None:
        self._reactor = reactor
        self._publisher = publisher
        self._queue = queue
        self._own = own
        self._one_at_a_time = DeferredLock()

    async def retry(self, guid: str) -> bool:
        """See `IDeadQueue.retry`."""
        submitted: list[str] = []

        async def again(message: Message) -> None:
            if not submitted:  # there may be several, left by whoever was killed while moving one
                await self._send(self._own, Message(message.body, content_type=message.content_type))
                submitted.append(guid)

        return await self._take(guid, again)

    async def drop(self, guid: str) -> bool:
        """See `IDeadQueue.drop`."""

        async def nothing(message: Message) -> None:
            pass

        return await self._take(guid, nothing)

    async def _take(self, guid: str, act: Act) -> bool:
        found: list[str] = []

        async def look(message: Message) -> None:
            if _guid(message) == guid:
                await act(message)
                found.append(guid)
            else:
                await self._send(self._queue, message)

        await detached(self._go_through(look))
        return bool(found)

    async def _go_through(self, look: Act) -> None:
        await self._one_at_a_time.acquire()  # two would hide messages from each other
        try:
            await self._publisher.ask(lambda protocol: self._through(protocol, look), refused=None)
        finally:
            self._one_at_a_time.release()

    async def _send(self, queue: bytes, message: Message) -> None:
        outcome = await self._publisher.send(queue, message)
        if outcome is not Delivered.CONFIRMED:
            raise DeadQueueLost(f"a message to queue {queue.decode()} was {outcome}")

    async def _through(self, protocol: AmqpProtocol, look: Act) -> None:
        try:
            number = self._publisher.spare_channel(protocol)
        except NoChannel as error:
            raise DeadQueueLost(str(error)) from None
        inbox = _Inbox()
        try:
            channel = await protocol.open_channel(number, inbox)
            count = (await channel.queue_declare(queue=self._queue, passive=True)).message_count
            await channel.basic_qos(prefetch_count=PREFETCH)
            if not count:
                return
            await channel.basic_consume(queue=self._queue, consumer_tag=CONSUMER)
            for _ in range(count):
                if not await self._next(protocol, number, inbox, look):
                    break
            await channel.basic_cancel(consumer_tag=CONSUMER)
            while len(inbox):  # what has come as well would be given back, and that would be counted
                await self._next(protocol, number, inbox, look)
        finally:
            await _close(protocol, number)

    async def _next(self, protocol: AmqpProtocol, number: int, inbox: _Inbox, look: Act) -> bool:
        """Look at the next message, and acknowledge it; False where none comes."""
        came = await inbox.next(self._reactor)
        if came is None:
            return False
        tag, properties, body = came
        await look(_message(properties, body))
        protocol.transport.write(ack_frames(number, [(tag, False)]))
        return True


async def _close(protocol: AmqpProtocol, number: int) -> None:
    channel = protocol.channels.get(number)
    try:
        if channel is not None and not channel.closed and protocol.usable:
            await channel.channel_close(200, "", 0, 0)
    finally:
        protocol.drop_channel(number)


def _guid(message: Message) -> str | None:
    """Return the guid of a dead task; headers that were too long for the broker's frames are not there."""
    return str(message.headers[GUID]) if GUID in message.headers else guid_of(message.body)


def _message(properties: Properties, body: bytes) -> Message:
    """Return a message as it came."""
    try:
        headers = decode_table(properties.headers) if properties.headers else {}
    except TableError:
        headers = {}  # of somebody else; its body is what matters
    return Message(
        body,
        properties.correlation_id,
        properties.reply_to,
        properties.content_type,
        headers=without_routes(headers),
        envelope=properties.envelope,
    )
