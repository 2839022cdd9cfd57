"""The contract of `IConsumer` and `IPublisher`, kept by RabbitMQ and by the simulated broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tefmanager.core.model.audience import Audience
from tefmanager.interfaces.amqp import Delivered, IConsumer, IPublisher, Message
from tests.contract.brokers import Inbox, SimTwin, Twin, real_twin
from tests.integration.amqp_support import awaited, later

CONFIRMED, RETURNED, LOST = Delivered.CONFIRMED, Delivered.RETURNED, Delivered.LOST


@pytest.fixture(params=["fake", "real"])
def twin(request: pytest.FixtureRequest, unique: str) -> Iterator[Twin]:
    """A broker of its own, or one whose queues are."""
    if request.param == "fake":
        yield SimTwin()
        return
    with real_twin(request.getfixturevalue("services"), unique) as real:
        yield real
        for ours in (real.consumer, real.publisher):
            pytest_twisted.blockon(Deferred.fromCoroutine(ours.stop()))


def do_nothing() -> None:
    """Whether the broker was blocked is of no matter here."""


def test_interfaces(twin: Twin) -> None:
    """Both have all that is asked for."""
    assert verifyObject(IConsumer, twin.consumer)
    assert verifyObject(IPublisher, twin.publisher)


# --- looking ---


@awaited
async def test_audience(twin: Twin) -> None:
    """How many consume a queue and how many messages wait in it, as long as there is one."""
    queue = f"{twin.queue}.worker"
    twin.publisher.start(do_nothing)
    await twin.pause()
    assert await twin.end(twin.publisher.audience(queue)) == Audience(False, 0, 0)
    twin.declare(queue)
    twin.put(queue, b"1", b"2")
    assert await twin.end(twin.publisher.audience(queue)) == Audience(True, 0, 2)
    twin.consume(queue)
    await twin.pause()
    assert await twin.end(twin.publisher.audience(queue)) == Audience(True, 1, 1)
    twin.go()
    found: Audience | None = Audience(True, 1, 1)
    while found is None or found.consumers:
        found = await twin.end(twin.publisher.audience(queue))
    twin.delete(queue)
    for _ in range(3):
        assert await twin.end(twin.publisher.audience(queue)) == Audience(False, 0, 0)
    twin.declare(queue)
    assert await twin.end(twin.publisher.dispatch(queue, Message(b"3"))) is CONFIRMED


# --- publishing ---


@awaited
async def test_confirmed_in_order(twin: Twin) -> None:
    """Messages to one queue are confirmed, and stand in it in the order of the calls."""
    twin.declare(queue := f"{twin.queue}.worker")
    twin.publisher.start(do_nothing)
    sent = [later(twin.publisher.send(queue.encode(), Message(b"%d" % n))) for n in range(50)]
    await twin.until(lambda: all(each.called for each in sent))
    assert [await each for each in sent] == [CONFIRMED] * 50
    assert twin.take(queue) == [b"%d" % n for n in range(50)]


@awaited
async def test_returned(twin: Twin) -> None:
    """What has no queue, and no exchange, is returned; what is sent beside it arrives."""
    twin.declare(queue := f"{twin.queue}.worker")
    twin.publisher.start(do_nothing)
    why: list[str] = []
    assert await twin.end(twin.publisher.send(b"nowhere", Message(b"1"), why.append)) is RETURNED
    assert await twin.end(twin.publisher.dispatch("nowhere", Message(b"2"), why.append)) is RETURNED
    assert [reason.split(":")[0] for reason in why] == ["312 NO_ROUTE"] * 2
    assert await twin.end(twin.publisher.dispatch(queue, Message(b"3"), why.append)) is CONFIRMED
    assert len(why) == 2
    assert twin.take(queue) == [b"3"]


@awaited
async def test_declared(twin: Twin) -> None:
    """A queue that somebody has deleted can be made anew; one that is there is left as it is."""
    twin.declare(queue := f"{twin.queue}.gone")
    twin.delete(queue)
    made = later(twin.publisher.declare(queue.encode()))
    twin.publisher.start(do_nothing)
    await twin.until(lambda: made.called)
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"1"))) is CONFIRMED
    await twin.end(twin.publisher.declare(queue.encode()))
    assert twin.take(queue) == [b"1"]


@awaited
async def test_dispatched_to_an_exchange(twin: Twin) -> None:
    """An address without a queue may be an exchange; a queue of that name goes first."""
    twin.declare(queue := f"{twin.queue}.behind")
    twin.bind(exchange := f"{twin.queue}.exchange", queue)
    twin.publisher.start(do_nothing)
    assert await twin.end(twin.publisher.send(exchange.encode(), Message(b"1"))) is RETURNED
    assert await twin.end(twin.publisher.dispatch(exchange, Message(b"2"))) is CONFIRMED
    assert twin.take(queue) == [b"2"]


@awaited
async def test_waits_for_a_connection(twin: Twin) -> None:
    """What is sent before there is a connection waits for it."""
    twin.declare(queue := f"{twin.queue}.worker")
    sent = [later(twin.publisher.send(queue.encode(), Message(b"%d" % n))) for n in range(3)]
    sent[1].cancel()
    await twin.pause()
    assert [each.called for each in sent] == [False, True, False]
    twin.publisher.start(do_nothing)
    await twin.until(lambda: all(each.called for each in sent))
    with pytest.raises(CancelledError):
        await sent[1]
    assert [await sent[0], await sent[2]] == [CONFIRMED] * 2
    assert twin.take(queue) == [b"0", b"2"]


@awaited
async def test_blocked(twin: Twin) -> None:
    """A blocked broker goes on delivering; what is sent waits, and goes out in order; the end is told."""
    twin.declare(queue := f"{twin.queue}.worker")
    inbox = Inbox()
    told: list[str] = []
    twin.publisher.start(lambda: told.append("unblocked"))
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"0"))) is CONFIRMED
    twin.declare(twin.queue)
    twin.put(twin.queue, b"x")
    try:
        await twin.block()
        # RabbitMQ blocks a connection when it publishes, and may take this one message still.
        sent = [later(twin.publisher.send(queue.encode(), Message(b"1")))]
        await twin.pause()
        sent += [later(twin.publisher.send(queue.encode(), Message(b"%d" % n))) for n in (2, 3)]
        twin.consumer.start(inbox)
        await twin.until(lambda: inbox.bodies == [b"x"])
        assert not any(each.called for each in sent[1:])
        assert told == []
    finally:
        await twin.unblock()
    await twin.until(lambda: all(each.called for each in sent))
    assert [await each for each in sent] == [CONFIRMED] * 3
    assert twin.take(queue) == [b"0", b"1", b"2", b"3"]
    assert told == ["unblocked"]
    await twin.end(twin.consumer.stop())


@awaited
async def test_connection_lost(twin: Twin) -> None:
    """What was under way is lost or confirmed; a confirmed message has arrived, and later ones go out."""
    twin.declare(queue := f"{twin.queue}.worker")
    twin.publisher.start(do_nothing)
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"first"))) is CONFIRMED
    sent = [later(twin.publisher.send(queue.encode(), Message(b"%d" % n))) for n in range(9)]
    twin.break_connections()
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"last"))) in (CONFIRMED, LOST)
    await twin.until(lambda: all(each.called for each in sent))
    outcomes = [await each for each in sent]
    assert set(outcomes) <= {CONFIRMED, LOST}
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"after"))) is CONFIRMED
    arrived = twin.take(queue)
    assert {b"%d" % n for n in range(9) if outcomes[n] is CONFIRMED} <= set(arrived)
    assert {b"first", b"after"} <= set(arrived)


@awaited
async def test_stop_waits_for_confirms(twin: Twin) -> None:
    """What is under way when it stops is still confirmed; after that all is lost until it starts again."""
    twin.declare(queue := f"{twin.queue}.worker")
    twin.publisher.start(do_nothing)
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"1"))) is CONFIRMED
    sent = later(twin.publisher.send(queue.encode(), Message(b"2")))
    await twin.end(twin.publisher.stop())
    assert await sent is CONFIRMED
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"3"))) is LOST
    twin.publisher.start(do_nothing)
    assert await twin.end(twin.publisher.send(queue.encode(), Message(b"4"))) is CONFIRMED
    assert twin.take(queue) == [b"1", b"2", b"4"]


@awaited
async def test_stopped_before_it_was_sent(twin: Twin) -> None:
    """What waits for a connection when it stops is lost."""
    sent = later(twin.publisher.send(b"anywhere", Message(b"1")))
    await twin.end(twin.publisher.stop())
    assert await sent is LOST


# --- consuming ---


@awaited
async def test_delivered_in_order(twin: Twin) -> None:
    """Messages come in the order of the queue, tags count up from 1, and what is acknowledged is gone."""
    inbox = Inbox()
    twin.consumer.start(inbox)
    twin.declare(twin.queue)
    twin.put(twin.queue, *(b"%d" % n for n in range(9)))
    await twin.until(lambda: len(inbox.deliveries) == 9)
    assert inbox.bodies == [b"%d" % n for n in range(9)]
    assert [delivery.tag for delivery in inbox.deliveries] == list(range(1, 10))
    assert not any(delivery.redelivered for delivery in inbox.deliveries)
    session = inbox.deliveries[0].session
    twin.consumer.ack(session, [3, 1, 2])
    twin.consumer.ack(session, [9, 5, 7])
    await twin.pause()
    await twin.end(twin.consumer.stop())
    await twin.until(lambda: twin.waiting(twin.queue) == 3)
    assert twin.take(twin.queue) == [b"3", b"5", b"7"]
    assert inbox.lost == []


@awaited
async def test_declares_its_queue(twin: Twin) -> None:
    """The queue is there once it has connected, also if it was not before."""
    inbox = Inbox()
    twin.consumer.start(inbox)
    await twin.until(lambda: twin.waiting(twin.queue) is not None)
    twin.put(twin.queue, b"x")
    await twin.until(lambda: inbox.bodies == [b"x"])


@awaited
async def test_stop_and_start(twin: Twin) -> None:
    """What was not acknowledged comes again, marked, in another session with tags of its own."""
    twin.declare(twin.queue)
    twin.put(twin.queue, b"1", b"2", b"3")
    first, second = Inbox(), Inbox()
    twin.consumer.start(first)
    await twin.until(lambda: len(first.deliveries) == 3)
    twin.consumer.ack(first.deliveries[0].session, [2])
    await twin.pause()
    await twin.end(twin.consumer.stop())
    twin.consumer.start(second)
    await twin.until(lambda: len(second.deliveries) == 2)
    assert second.bodies == [b"1", b"3"]
    assert [(each.tag, each.redelivered) for each in second.deliveries] == [(1, True), (2, True)]
    assert second.deliveries[0].session > first.deliveries[0].session
    assert len(first.deliveries) == 3
    assert first.lost == second.lost == []


@awaited
async def test_session_lost(twin: Twin) -> None:
    """A broken connection is told, and what was not acknowledged comes again before what is new."""
    inbox = Inbox()
    twin.declare(twin.queue)
    twin.put(twin.queue, b"1", b"2", b"3")
    twin.consumer.start(inbox)
    await twin.until(lambda: len(inbox.deliveries) == 3)
    session = inbox.deliveries[0].session
    twin.consumer.ack(session, [1])
    await twin.pause()
    twin.break_connections()
    twin.put(twin.queue, b"4")
    await twin.until(lambda: inbox.lost == [session])
    await twin.until(lambda: {b"2", b"3", b"4"} <= {each.body for each in inbox.deliveries[3:]})
    again = {each.body: each.redelivered for each in inbox.deliveries if each.session > session}
    assert again[b"2"]
    assert again[b"3"]
    assert b"1" not in again
    assert min(each.tag for each in inbox.deliveries[3:]) == 1


@awaited
async def test_few_at_a_time(twin: Twin) -> None:
    """One that begins narrow takes one message, then a few more, then all; none is lost or overtaken."""
    twin.declare(twin.queue)
    twin.put(twin.queue, *(b"%d" % n for n in range(15)))
    inbox = Inbox()
    twin.consumer.start(inbox, narrow=True)
    await twin.until(lambda: inbox.deliveries)
    await twin.pause()
    assert inbox.bodies == [b"0"]
    twin.consumer.widen(wholly=False)
    await twin.until(lambda: len(inbox.bodies) > 1)
    await twin.pause()
    assert len(inbox.bodies) in (2, 3)  # what the consumer had before it was made anew may count or not
    twin.consumer.widen(wholly=True)
    await twin.until(lambda: len(inbox.deliveries) == 15)
    assert inbox.bodies == [b"%d" % n for n in range(15)]
    twin.consumer.ack(inbox.deliveries[0].session, [each.tag for each in inbox.deliveries])
    await twin.pause()
    await twin.end(twin.consumer.stop())
    assert twin.take(twin.queue) == []


@awaited
async def test_ack_of_a_past_session(twin: Twin) -> None:
    """A tag means nothing in another session than its own."""
    inbox = Inbox()
    twin.declare(twin.queue)
    twin.put(twin.queue, b"1", b"2")
    twin.consumer.start(inbox)
    await twin.until(lambda: len(inbox.deliveries) == 2)
    twin.break_connections()
    await twin.until(lambda: len(inbox.deliveries) == 4)
    twin.consumer.ack(inbox.deliveries[0].session, [1, 2])
    await twin.pause()
    await twin.end(twin.consumer.stop())
    await twin.until(lambda: twin.waiting(twin.queue) == 2)
    assert twin.take(twin.queue) == [b"1", b"2"]


@awaited
async def test_ceased(twin: Twin) -> None:
    """It asks for no more, and what has come may still be acknowledged."""
    inbox = Inbox()
    twin.declare(twin.queue)
    twin.put(twin.queue, b"1", b"2")
    twin.consumer.start(inbox)
    await twin.until(lambda: len(inbox.deliveries) == 2)
    await twin.end(twin.consumer.cease())
    await twin.pause()
    twin.put(twin.queue, b"3")
    await twin.pause()
    assert inbox.bodies == [b"1", b"2"]
    twin.consumer.ack(inbox.deliveries[0].session, [1])
    await twin.pause()
    await twin.end(twin.consumer.stop())
    await twin.until(lambda: twin.waiting(twin.queue) == 2)
    assert twin.take(twin.queue) == [b"2", b"3"]
