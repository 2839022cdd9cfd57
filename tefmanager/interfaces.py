"""The contracts between the engine and the outside: who retries, what may be repeated, what failure means.

Each has a real implementation in an adapter package and a fake in ``tests/fakes`` that passes the same
contract suite. Methods that are coroutine functions may be called from any turn; no implementation
calls back into the engine but through the callables it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field
from zope.interface import Attribute, Interface, implementer

from tefmanager.core.resources import Resource
from tefmanager.core.values import (
    AttemptRow,
    Bodies,
    Changes,
    DeadRow,
    FinishedRow,
    Snapshot,
    Stretch,
    SuiteEnds,
    TaskRow,
)

# --- Measuring -------------------------------------------------------------------------------


class IMeter(Interface):
    """Who counts what the log does not tell. Nothing is raised and nothing waits."""

    def turned(seconds: float) -> None:
        """A turn that took something in has ended, and took so long."""

    def dispatched(waited: float, time: float) -> None:
        """At a unix time a task was dispatched, so many seconds after it came in."""

    def reserved(outcome: str, claims: int = 1) -> None:
        """Etcd's answer to so many claims was ``granted``, ``refused`` or ``unknown``."""

    def conflicted() -> None:
        """A write to Etcd has to be tried again: others had changed what it was decided by."""


@implementer(IMeter)
class NoMeter:
    """Counts nothing."""

    def turned(self, seconds: float) -> None:
        """See `IMeter.turned`."""

    def dispatched(self, waited: float, time: float) -> None:
        """See `IMeter.dispatched`."""

    def reserved(self, outcome: str, claims: int = 1) -> None:
        """See `IMeter.reserved`."""

    def conflicted(self) -> None:
        """See `IMeter.conflicted`."""


# --- PostgreSQL ------------------------------------------------------------------------------


class StoreLost(Exception):
    """The session with the database is gone, or is no longer to be trusted.

    Whether the statement under way took effect is not known: begin a new reign and read.
    """


class StoreConflict(StoreLost):
    """The database refused the changes: they do not fit its rows. Nothing of them was written."""


class ReignOver(StoreLost):
    """Another manager has begun to reign since: this one must not write any more."""


class SchemaTooNew(Exception):
    """The database was upgraded by a newer version of this program."""


class IReign(Interface):
    """The right to write, held by at most one manager of an environment and name prefix at a time.

    It lasts as long as its database session. After any `StoreLost` it is over for good.
    """

    epoch: int = Attribute("Number of this reign; each is larger than the ones before.")

    def watch(tell: Callable[[StoreLost], None]) -> None:
        """Call ``tell`` once, as soon as the session is found to be gone, also between commits.

        At once where that is known already; never after `end`.
        """

    async def load(at_most: int | None = None) -> Snapshot:
        """Read all rows.

        Where there are more than ``at_most`` tasks, the plain ones (`TaskRow.plain`) are only counted,
        but for the first of each road, by priority and age.
        """

    async def tasks(guids: Sequence[str]) -> Sequence[TaskRow]:
        """Return the tasks of these guids that are not finished, by id."""

    async def heads(task_type: str, resources: Sequence[str], each: int) -> Sequence[TaskRow]:
        """Return the first plain tasks of each suite on a road, at most ``each``.

        Those of one suite stand together, in their order.
        """

    async def following(stretches: Sequence[Stretch]) -> Sequence[Sequence[TaskRow]]:
        """Return the plain tasks of each stretch, in their order."""

    async def commit(changes: Changes) -> Bodies:
        """Write a turn's changes in one transaction and return the bodies it asked for.

        Either all of it has happened when this returns, or `StoreLost` is raised; `StoreConflict`
        where the changes are to blame. Never retried by
        the implementation, never called while another commit is under way.
        """

    async def finished(guids: Sequence[str]) -> frozenset[str]:
        """Return those of the guids that are in history."""

    async def history(guids: Sequence[str]) -> Sequence[FinishedRow]:
        """Return the tasks of these guids that are in history, by guid; of several only the last one."""

    async def suite_ends(suites: Sequence[str]) -> SuiteEnds:
        """Count the tasks in history of each of these suites by their outcome."""

    async def attempts(task_id: int) -> Sequence[AttemptRow]:
        """Return the attempts of a task that ended, oldest first."""

    async def dead(at_most: int) -> tuple[int, Sequence[DeadRow]]:
        """Count the dead tasks that did not come again and are not settled, and return the last ones."""

    async def settle(guids: Sequence[str]) -> Sequence[str]:
        """Let the dead tasks of these guids be listed no more; return those that were, sorted."""

    async def forget(before: float, at_most: int) -> int:
        """Remove up to ``at_most`` tasks that ended before a unix time from history, with their attempts.

        The oldest first; dead ones stay until they are settled, or came again and ended. Returns how many.
        """

    async def end() -> None:
        """Give up the lock and the session. Never raises; may be called again."""


class IStore(Interface):
    """Where reigns come from."""

    async def reign(on_wait: Callable[[str], None]) -> IReign:
        """Wait until this manager is the active one, bring the schema up to date, begin a reign.

        ``on_wait`` is told, each time it changes, what is being waited for, for people and without
        secrets ("database 127.0.0.1:5432: connection refused", "another manager is active").
        Connecting is retried for ever, with jittered backoff. Cancelling the Deferred that wraps it
        leaves no connection behind. Raises `SchemaTooNew`.
        """


# --- Etcd ------------------------------------------------------------------------------------


class ReservationsLost(Exception):
    """Etcd did not answer, or not in time. Whether the request took effect is not known."""


class Claim(Struct, frozen=True):
    """The references that one attempt wants, or holds: one of each name."""

    attempt: int
    resources: tuple[str, ...]


class Granted(Struct, frozen=True):
    """All references of a claim that have an entry in Etcd are held now."""

    attempt: int
    reserved: tuple[str, ...]


class Refused(Struct, frozen=True):
    """Nothing of a claim is held: one resource had no reference to give."""

    attempt: int
    short: str


Seen: TypeAlias = Mapping[str, Resource | None]
"""What is newly known of resources, by name; None where the entry is gone."""


class IResourceObserver(Interface):
    """Who is told what Etcd says, in the order in which it became true."""

    def resources_seen(seen: Seen) -> None:
        """Take in changes of single resources, ours or of others."""

    def resources_read(seen: Seen, held: Mapping[int, frozenset[str]]) -> None:
        """Take in a full read: all resources there are, and our own lock keys by attempt.

        A name that is not in ``seen`` has no entry. ``held`` leaves out attempts whose claim is being
        answered: the answer tells.
        """

    def resources_lost(reason: str) -> None:
        """Etcd is away; reservations wait. A full read follows when it is back."""


class IReservations(Interface):
    """References to shared resources, in Etcd."""

    def start(observer: IResourceObserver) -> None:
        """Begin to read and watch, for ever: reconnects by itself, with jittered backoff."""

    async def reserve(claims: Sequence[Claim]) -> Sequence[Granted | Refused]:
        """Take all references of a claim or none of them, claim by claim, in order.

        A name without an entry in Etcd is left out of ``reserved``. Before this returns the observer
        has been told the counts that result. A conflict with another program is retried within; a
        limit is never passed. On `ReservationsLost` the outcome of every claim is unknown: release
        each of them before it is forgotten.
        """

    async def release(claims: Sequence[Claim]) -> None:
        """Give back what the attempts still hold of these resources; nothing where they hold nothing.

        A reference is given back by its own lock key, once, so this may be repeated at will. On
        `ReservationsLost` call it again.
        """

    async def refresh() -> None:
        """Read everything anew and tell the observer. Raises `ReservationsLost`."""

    async def stop() -> None:
        """Stop watching and close connections; a request under way fails with `ReservationsLost`."""


# --- RabbitMQ --------------------------------------------------------------------------------


class Delivery(Struct, frozen=True):
    """A message that was delivered and is not acknowledged yet.

    Attributes:
        session: number of the consumer's channel; tags of another session mean nothing.
        tag: the delivery tag, counting up from 1 in a session.
        redelivered: the broker may have delivered it before.
        body: the bytes.
        reply_to, correlation_id: as sent, or None; bytes, since nothing says they are text.
        content_type: as sent, or None.
        headers: the application headers as they came on the wire (an encoded field table), or None.
    """

    session: int
    tag: int
    redelivered: bool
    body: bytes
    reply_to: bytes | None = None
    correlation_id: bytes | None = None
    content_type: bytes | None = None
    headers: bytes | None = None


class IDeliveries(Interface):
    """Who is handed the manager's messages."""

    def delivered(delivery: Delivery) -> None:
        """Take in one message, in the order of the queue."""

    def session_lost(session: int, reason: str) -> None:
        """The channel is gone: what it delivered and was not acknowledged comes again."""


class IConsumer(Interface):
    """The manager's queue. Declares queues, exchanges and bindings at each (re)connect."""

    def start(deliveries: IDeliveries, rank: int = 0) -> None:
        """Connect and consume, for ever: reconnects by itself, with jittered backoff.

        Another manager's consumer, of a lower rank, may be there still: nothing new goes to that one.
        """

    def ack(session: int, tags: Sequence[int]) -> None:
        """Acknowledge deliveries, in any order; ones of a past session are ignored."""

    async def cease() -> None:
        """Ask for no more deliveries, and return when the last has come, or soon if nobody answers.

        Those that have come may still be acknowledged, until `stop`.
        """

    async def stop() -> None:
        """Stop consuming; what is not acknowledged goes back to the queue. May be started again.

        ``session_lost`` is not told of this.
        """


class Delivered(StrEnum):
    """What became of a published message."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    """It could not be routed: no such queue, no such exchange, or nothing bound to it."""
    NACKED = "nacked"
    LOST = "lost"
    """The connection went before the broker had answered: it may or may not have arrived."""


class Message(Struct, frozen=True):
    """A message to publish.

    Attributes:
        body: the bytes.
        correlation_id, reply_to, content_type: as on the wire, or None.
        headers: application headers to send; text, numbers, bytes, lists and dicts.
        persistent: the broker keeps it on disk.
    """

    body: bytes
    correlation_id: bytes | None = None
    reply_to: bytes | None = None
    content_type: bytes | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    persistent: bool = True


class IPublisher(Interface):
    """Publishing with the broker's confirm. Messages to one place arrive in the order of the calls."""

    def start(unblocked: Callable[[], None]) -> None:
        """Connect, for ever: reconnects by itself, with jittered backoff.

        ``unblocked`` is called when the broker, having taken no messages from anyone, takes them again.
        """

    async def send(queue: bytes, message: Message) -> Delivered:
        """Publish to a queue through the default exchange, mandatory.

        While there is no connection, or the broker blocks publishers, this waits. Nothing is sent again.
        """

    async def dispatch(address: str, message: Message) -> Delivered:
        """Publish to the queue of that name, or where there is none to the exchange of that name.

        To an exchange the routing key is ``task``. Which of the two it is, is remembered until a
        message is returned. Otherwise like ``send``.
        """

    async def declare(queue: bytes) -> None:
        """Make a durable queue where there is none of that name. Waits while there is no connection.

        Where the broker refuses, nothing happens: publishing to it tells.
        """

    def announce(key: str, body: Callable[[], bytes]) -> None:
        """Publish a transient JSON message to the exchange of events, for whoever is bound for its key.

        At best effort: dropped where it can't leave at once. ``body`` makes it, and is not called where
        it is known that nobody would hear it. Nothing is raised and nothing waits.
        """

    async def stop() -> None:
        """Wait for confirms that are under way (5 seconds at most), then disconnect.

        What was not sent by then is `Delivered.LOST`.
        """


class DeadQueueLost(Exception):
    """What was to be done with the dead queue was not done to its end; it may be tried again."""


class IDeadQueue(Interface):
    """The queue of tasks that were given back too often, as an operator deals with it.

    A call goes through the whole queue, and waits while there is no connection. It may raise
    `DeadQueueLost`; then the task is in the queue still, and may have been submitted all the same.
    """

    async def retry(guid: str) -> bool:
        """Submit a task again, as it came, and take it out after that; False: it is not there."""

    async def drop(guid: str) -> bool:
        """Take a task out; False: it is not there."""
