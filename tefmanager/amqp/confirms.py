"""A channel in confirm mode: knows which messages were published on it, and the outcome of each."""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from itertools import takewhile
from math import inf

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.codec import short_text
from tefmanager.amqp.delegate import why
from tefmanager.amqp.frames import (
    PROPERTIES_OVERHEAD,
    Properties,
    encode_around,
    publish_frames,
    route,
)
from tefmanager.amqp.unasked import ChannelEvents
from tefmanager.interfaces.amqp import Delivered, Message, Tell, tell_nobody
from tefmanager.support.backoff import Backoff
from tefmanager.support.lease import Lease

ACCESS_REFUSED = 403
NOT_FOUND = 404

DEFAULT_EXCHANGE = b"amq.default"
"""The broker's name for the default exchange."""


NACK = "the broker refused it (basic.nack): the queue is full, or a part of it is away"


_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")


def largest_of(reason: str) -> tuple[int, int] | None:
    """Return size and limit if the broker closed a channel because a message was too large."""
    found = _TOO_LARGE.search(reason)
    return None if found is None else (int(found[1]), int(found[2]))


class _Entry:
    """A message, from the call that publishes it until the broker's answer."""

    __slots__ = (
        "after",
        "answer",
        "before",
        "exchange",
        "message",
        "reason",
        "refused",
        "returned",
        "routed",
        "tell",
    )

    def __init__(self, exchange: bytes, routed: bytes, message: Message, tell: Tell) -> None:
        self.exchange = exchange
        self.routed = routed
        self.before, self.after = encode_around(message)
        self.message = message
        self.returned = self.refused = False
        self.reason = ""
        self.tell = tell
        self.answer: Deferred[Delivered]


class ConfirmChannel(ChannelEvents):
    """Publishes on one channel, mandatory and with confirms, in the order of the calls.

    Messages wait here while there is no channel or nothing may be written. They have no limit in number,
    because a caller waits for each of them.

    Each message has the message id ``<token>-<number>``, so that a returned message can be told from the
    others in flight. The token is new for each channel; the number is the one by which the broker confirms
    the message. Routing key and content would not identify it: the same message may be sent twice, and one
    confirm may cover several messages.

    If the broker lets us publish to no queue at all, its refusal says nothing about a single message. Then
    all messages wait, and one at a time is tried again, so that the outcome of none is in doubt.

    Args:
        number: of the channel.
        lease: messages wait while it does not hold.
        window: the largest number of unconfirmed messages.
        on_close: is told why the broker closed the channel; not again until a message is confirmed.
        on_access: is told why the broker lets us publish to no queue, and gets an empty text when it does
            again.

    Attributes:
        number: as given; used by the next `open`.
    """

    _log = Logger()

    def __init__(
        self,
        number: int,
        lease: Lease,
        window: float = inf,
        on_close: Callable[[str], None] = tell_nobody,
        on_access: Callable[[str], None] = tell_nobody,
    ) -> None:
        self.number = number
        self._lease = lease
        self._window = window
        self._on_close = on_close
        self._on_access = on_access
        self._pauses: Backoff | None = None  # the broker lets us publish to no queue
        self._again: IDelayedCall | None = None
        self._protocol: AmqpProtocol | None = None
        self._writable = True
        self._waiting: deque[_Entry] = deque()
        self._in_flight: dict[int, _Entry] = {}
        self._next = 1
        self._token = b""
        self._told = ""

    def __len__(self) -> int:
        """Return how many messages wait to be sent or to be confirmed."""
        return len(self._waiting) + len(self._in_flight)

    # --- Publishing ---

    def publish(
        self, exchange: bytes, key: bytes, message: Message, tell: Tell = tell_nobody
    ) -> Deferred[Delivered]:
        """Publish a message and return its outcome. Raises `TableError` if it can't be encoded.

        ``tell`` is given the reason if the message is not confirmed.

        Cancelling the Deferred withdraws the message if it has not been sent yet.
        """
        entry = _Entry(exchange, route(exchange, key), message, tell)
        entry.answer = Deferred(lambda _: self._take_back(entry))
        self._waiting.append(entry)
        self._drain()
        return entry.answer

    def _take_back(self, entry: _Entry) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)

    def _send(self, protocol: AmqpProtocol, entry: _Entry) -> None:
        number, self._next = self._next, self._next + 1
        self._in_flight[number] = entry
        before, after = self._properties_of(entry, protocol.frame_max)
        properties = before + short_text(b"%b-%d" % (self._token, number)) + after
        protocol.transport.write(
            publish_frames(self.number, entry.routed, properties, entry.message.body, protocol.frame_max)
        )

    def _properties_of(self, entry: _Entry, frame_max: int) -> tuple[bytes, bytes]:
        """Return a message's properties, without headers that are too long for a single frame."""
        size = len(entry.before) + len(entry.after)
        if size + PROPERTIES_OVERHEAD <= frame_max:
            return entry.before, entry.after
        self._log.warn("Headers of {size} bytes are left out: the broker takes no such frame", size=size)
        return encode_around(replace(entry.message, headers={}, original=None))

    def set_writable(self, writable: bool) -> None:
        """Send the waiting messages, or hold messages back."""
        self._writable = writable
        self._drain()

    def _drain(self) -> None:
        while self._waiting and self._protocol is not None and self._may_send():
            self._send(self._protocol, self._waiting.popleft())

    def _may_send(self) -> bool:
        window = self._window if self._pauses is None else 1
        return self._writable and self._lease.holds and len(self._in_flight) < window

    # --- The channel ---

    async def open(self, protocol: AmqpProtocol) -> None:
        """Open the channel on a connection and send the waiting messages. Raises `txamqp.client.Closed`."""
        channel = await protocol.open_channel(self.number, self)
        await channel.confirm_select()
        self._next = 1
        self._token = secrets.token_hex(4).encode()
        self._protocol = protocol
        self._drain()

    def hand_over(self, other: ConfirmChannel) -> None:
        """Give the waiting messages to another channel, because this one is not opened."""
        while self._waiting:
            other.take_over(self._waiting.popleft())

    def take_over(self, entry: _Entry) -> None:
        """Send a message of another channel. Only for `hand_over`."""
        self._waiting.append(entry)
        self._drain()

    def give_up(self) -> None:
        """Settle all messages as lost."""
        waiting, self._waiting = self._waiting, deque()
        self._settle_all((*self._take_in_flight(), *waiting), "the manager stops")

    # --- What the broker says ---

    def returned(self, reason: str, properties: Properties) -> None:
        """Remember that a message could not be routed."""
        own = properties.cluster_id or properties.message_id or b""
        token, _, number = own.partition(b"-")
        entry = self._in_flight.get(int(number)) if token == self._token and number.isdigit() else None
        if entry is None:
            self._log.warn("A message was returned that is not in flight: {reason}", reason=reason)
        else:
            entry.returned = True
            entry.reason = reason

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """Settle one message, or all up to a number."""
        self._told = ""
        if self._pauses is not None:
            self._pauses = None
            self._on_access("")
        last = tag or self._next - 1  # multiple with tag 0 means all
        for number in self._up_to(last) if multiple else (last,):
            entry = self._in_flight.pop(number, None)
            if entry is not None:
                _settle(entry, *((Delivered.CONFIRMED, "") if ok else (Delivered.NACKED, NACK)))

        self._drain()

    def _up_to(self, last: int) -> list[int]:
        """Return the numbers in flight up to ``last``, in order."""
        return list(takewhile(lambda number: number <= last, self._in_flight))

    def closed(self, reason: str) -> None:
        """Settle the messages in flight: nobody will report their outcome."""
        self._protocol = None
        self._settle_all(self._take_in_flight(), reason)

    def closed_by_broker(self, code: int, reason: str) -> None:
        """Settle the messages in flight, and open the channel again."""
        protocol, self._protocol = self._protocol, None
        entries = self._take_in_flight()
        touched, untouched = _split(code, reason, entries)
        if protocol is not None:
            # These go after the messages that are sent first, to keep the order of the calls.
            self._waiting.extendleft(entry for entry in reversed(untouched) if not entry.answer.called)
            if code == ACCESS_REFUSED and _names(reason, b""):
                self._try_again(protocol, reason)
            else:
                self._tell_close(reason)
                self._reopen(protocol)
        self._settle_all(touched, reason)

    def _try_again(self, protocol: AmqpProtocol, reason: str) -> None:
        """Open the channel again after a pause, because a right is missing."""
        if self._pauses is None:
            self._pauses = Backoff(protocol.clock)
        self._on_access(reason)
        self._again = protocol.clock.callLater(self._pauses.next(), self._reopen, protocol)

    def hurry(self) -> None:
        """End the pause: the broker lets us publish to queues again."""
        if self._again is not None and self._again.active():
            self._again.reset(0)

    def _tell_close(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._on_close(reason)

    def _reopen(self, protocol: AmqpProtocol) -> None:
        if protocol.usable:
            opened = Deferred.fromCoroutine(self.open(protocol))
            opened.addErrback(lambda failure: _cannot_reopen(protocol, failure))

    def _take_in_flight(self) -> list[_Entry]:
        in_flight, self._in_flight = self._in_flight, {}
        return [in_flight[number] for number in sorted(in_flight)]

    def _settle_all(self, entries: Iterable[_Entry], reason: str) -> None:
        for entry in entries:
            _settle(entry, Delivered.LOST, reason)


def _settle(entry: _Entry, outcome: Delivered, reason: str) -> None:
    if entry.returned:
        # This message was not routed, whatever else went wrong.
        outcome = Delivered.RETURNED
    elif entry.refused:
        outcome = Delivered.REFUSED
    if not entry.answer.called:
        if outcome is not Delivered.CONFIRMED:
            entry.tell(entry.reason or reason)
        entry.answer.callback(outcome)


def _cannot_reopen(protocol: AmqpProtocol, failure: Failure) -> None:
    protocol.shut(f"a channel can't be opened: {why(failure.value)}")


def _split(code: int, reason: str, entries: list[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
    """Separate messages that a closed channel may have delivered from those that it certainly did not.

    The broker handles a channel's messages in order, and a message to an exchange that is missing or
    forbidden closes it. So the last message to that exchange was certainly not delivered, earlier ones to
    it may have been, and those after it were not looked at. Messages that were refused because we may
    publish to no queue at all may be sent again. A message that is too large closes the channel too, and
    the broker names its size.
    """
    if (found := largest_of(reason)) is not None:
        return _split_at_size(found[0], entries)
    named = [index for index, entry in enumerate(entries) if _names(reason, entry.exchange)]
    if code not in (ACCESS_REFUSED, NOT_FOUND) or not named:
        return entries, []
    if code == ACCESS_REFUSED and not entries[named[-1]].exchange:
        return entries[: named[-1]], entries[named[-1] :]
    entries[named[-1]].returned = True
    return entries[: named[-1] + 1], entries[named[-1] + 1 :]


def _split_at_size(size: int, entries: list[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
    index = next((n for n, entry in enumerate(entries) if len(entry.message.body) == size), None)
    if index is None:
        return entries, []
    entries[index].refused = True
    return entries[: index + 1], entries[index + 1 :]


def _names(reason: str, exchange: bytes) -> bool:
    """Return whether the broker closed the channel because of this exchange."""
    name = (exchange or DEFAULT_EXCHANGE).decode("utf-8", "backslashreplace") + "'"
    found = reason.partition("exchange '")[2]
    # The protocol cuts a reason off after 255 bytes, and a long name fills them.
    return found != "" and (found.startswith(name) or name.startswith(found))
