"""Reads what comes in, gives it to the core, and notes what to do with each message."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace
from twisted.internet.defer import CancelledError

from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.effects import Reply
from tefmanager.core.model.values import Moment
from tefmanager.engine.deliveries import event_of, reply_to, was_renewed, was_set_aside
from tefmanager.engine.liveness import Liveness
from tefmanager.engine.pager import Pager
from tefmanager.inquiry.questions import CHANGING, PARSERS, WRITING, Question
from tefmanager.interfaces.amqp import Delivery
from tefmanager.interfaces.store import ILeadership, StoreConflict, StoreLost
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import DispatchTasks, Invalid, Parsed, TaskMessage, WorkerMessage, parse
from tefmanager.support.crashpoints import CrashPoint, reach

Item: TypeAlias = Delivery | events.Event


NEAR = 10
"""After how many returns to its queue a message is taken in alone. RabbitMQ 4 drops a message after 20
returns, unless a policy says otherwise."""

SHOWN = 100
"""How many characters of a message are logged."""

_NAMED_BY_BROKER = "amq.gen-"
"""The prefix of the queue names that RabbitMQ generates for clients which give no name."""

_NOT_A_WORKER_S = "exchange_name is {!r}, which belongs to the manager or the broker, not to a worker"


class Poisoned(Exception):
    """A turn failed because of one message, which must not make another turn fail.

    Attributes:
        body: the message's body, as `fingerprint` takes it.
    """

    def __init__(self, body: bytes, reason: str) -> None:
        super().__init__(f"a message could not be handled: {reason}")
        self.body = fingerprint(body)


def fingerprint(body: bytes) -> bytes:
    """Return a hash that identifies a message. Messages may be long, and the hash is kept for ever."""
    return sha256(body).digest()


class Arrival(NamedTuple):
    """Something that came in and, if it is a message, its parsed content."""

    item: Item
    parsed: Parsed | Question | None


class Rejected(NamedTuple):
    """A message for the rejected queue, with the reason and the answer to its sender."""

    delivery: Delivery
    reason: str
    answer: Reply | None


@dataclass(slots=True, eq=False)
class Turn:
    """What a turn has taken in, and what to do with the messages after its commit.

    Attributes:
        began: monotonic time.
        size: number of messages and events.
        deliveries: number of messages.
        acks: tags to acknowledge, by the session that delivered them.
        rejected: messages that nobody can use.
    """

    began: float
    size: int = 0
    deliveries: int = 0
    acks: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    rejected: list[Rejected] = field(default_factory=list)


class Reception:
    """Takes arrivals into turns.

    Args:
        poison: fingerprints of messages that ended a leadership. Each is rejected once when it is
            redelivered.
        message_limit: the largest size of a message, in bytes.
        own: names of queues and exchanges that no worker can have.
        ask: takes a question and the message that asks it.
        reconciled: is called when the core knows all that Etcd holds.

    Attributes:
        poison: as given.
        delivered: number of messages that have come.
    """

    def __init__(
        self,
        core: Core,
        leadership: ILeadership,
        liveness: Liveness,
        poison: set[bytes],
        message_limit: int,
        own: frozenset[str],
        ask: Callable[[Question, Delivery], None],
        reconciled: Callable[[], None],
    ) -> None:
        self._core = core
        self._leadership = leadership
        self._pager = Pager(core.backlog, leadership)
        self._liveness = liveness
        self.poison = poison
        self.delivered = 0
        self._message_limit = message_limit
        self._own = own
        self._ask = ask
        self._reconciled = reconciled
        self._session = -1

    def read(self, item: Item) -> Arrival:
        """Parse an item before its turn."""
        if not isinstance(item, Delivery):
            return Arrival(item, None)
        self.delivered += 1
        if was_renewed(item):
            item = replace(item, redelivered=True)
        again = item.redelivered or was_set_aside(item)
        if again and self.poison and fingerprint(item.body) in self.poison:
            return Arrival(item, _failed_on(item))
        if at_risk(item):
            emit(catalogue.DELIVERY_LIMIT_NEAR(item.given_back, catalogue.readable(item.body)[:SHOWN]))
        parsed: Parsed | Question = parse(
            item.body, self._message_limit, self._core.attempts.limits.excerpt, PARSERS
        )
        if isinstance(parsed, WorkerMessage) and self._is_own(parsed.exchange_name):
            reason = _NOT_A_WORKER_S.format(parsed.exchange_name)
            parsed = Invalid(catalogue.INVALID_FIELD(parsed.name, reason))
        return Arrival(item, parsed)

    def _is_own(self, exchange_name: str) -> bool:
        """Tell whether an address belongs to the manager or the broker, so that it can't be a worker's."""
        reserved = exchange_name.startswith("amq.") and not exchange_name.startswith(_NAMED_BY_BROKER)
        return reserved or exchange_name in self._own

    def needs_rows(self, arrival: Arrival) -> bool:
        """Tell whether rows must be read before this arrival can be taken in."""
        return _comes_again(arrival) or self._pager.needed(arrival.parsed)

    async def look_up(self, arrivals: Sequence[Arrival]) -> frozenset[str]:
        """Page in what arrivals need; return which of their guids are in history. Raises `StoreLost`."""
        await self._pager.prepare(arrival.parsed for arrival in arrivals)
        again = [arrival.parsed for arrival in arrivals if _comes_again(arrival)]
        guids = [parsed.guid for parsed in again if isinstance(parsed, TaskMessage)]
        return await self._leadership.finished(guids) if guids else frozenset()

    def take_in(
        self, turn: Turn, arrivals: Sequence[Arrival], now: Moment, finished: frozenset[str] = frozenset()
    ) -> None:
        """Take arrivals into a turn. ``finished``: the guids that are in history. Raises `Poisoned`."""
        turn.size += len(arrivals)
        for arrival in arrivals:
            if isinstance(arrival.item, Delivery):
                turn.deliveries += 1
                self._deliver(turn, arrival.item, arrival.parsed, finished, now)
            else:
                self._happened(arrival.item, now)

    def _happened(self, event: events.Event, now: Moment) -> None:
        self._core.apply(event, now)
        if isinstance(event, events.ResourcesRead):
            reach(CrashPoint.LEADERSHIP_RECONCILED)
            self._reconciled()

    def _deliver(
        self,
        turn: Turn,
        delivery: Delivery,
        parsed: Parsed | Question | None,
        finished: frozenset[str],
        now: Moment,
    ) -> None:
        if delivery.session != self._session:
            self._session = delivery.session
            self._core.apply(events.DeliveriesResumed(), now)
        probe = parsed.probe if isinstance(parsed, DispatchTasks) else None
        if probe is not None and self._liveness.came(probe):
            pass  # a probe says nothing else
        elif isinstance(parsed, Invalid):
            self._refuse(turn, delivery, parsed)
            if parsed.rejected is not None:
                return
        elif isinstance(parsed, Question):
            if isinstance(parsed, CHANGING) or reply_to(delivery) is not None:
                self._ask(parsed, delivery)
            if isinstance(parsed, WRITING):
                return
        else:
            try:
                self._core.apply(event_of(delivery, parsed, finished), now)
            except Exception as error:
                raise Poisoned(delivery.body, f"{type(error).__name__}: {error}") from error
        turn.acks[delivery.session].append(delivery.tag)

    def _refuse(self, turn: Turn, delivery: Delivery, invalid: Invalid) -> None:
        """Log and answer a message that can't be used. It is acknowledged when its copy is safe."""
        if not was_set_aside(delivery):
            self._core.ledger.log(invalid.line)
        reply = reply_to(delivery)
        answer = None if reply is None else Reply(reply, invalid.line.text)
        if invalid.rejected is not None:
            turn.rejected.append(Rejected(delivery, invalid.rejected, answer))
        elif answer is not None:
            self._core.ledger.do(answer)


def _failed_on(delivery: Delivery) -> Invalid:
    reason = "the manager failed on this message before"
    return Invalid(
        catalogue.TASK_REJECTED(reason, catalogue.readable(delivery.body)[:SHOWN]), rejected=reason
    )


def blamed(batch: Sequence[Arrival], error: Exception) -> Exception:
    """Return why a turn of at most one item failed: `Poisoned`, unless a service is to blame."""
    services = isinstance(error, StoreLost) and not isinstance(error, StoreConflict)
    known = services or isinstance(error, Poisoned | CancelledError)
    if known or not batch or not isinstance(batch[0].item, Delivery):
        return error
    return Poisoned(batch[0].item.body, f"{type(error).__name__}: {error}")


def at_risk(item: Item) -> bool:
    """Tell whether RabbitMQ drops this message after a few more returns to its queue."""
    return isinstance(item, Delivery) and item.given_back >= NEAR


def _comes_again(arrival: Arrival) -> bool:
    """Tell whether this is a task that may have finished since the broker first delivered it."""
    item = arrival.item
    return isinstance(item, Delivery) and item.redelivered and isinstance(arrival.parsed, TaskMessage)
