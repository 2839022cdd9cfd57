"""What is carried out after a turn, as far as others could fill the manager with it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tefmanager.core.model.effects import Reply, ReplyTo, ReplyWorkers, WorkerInfo
from tefmanager.core.model.values import WorkerStatus
from tefmanager.core.running.announcements import LARGEST, ROOM, workers_told
from tefmanager.engine import deliveries
from tefmanager.engine.effector import Effector
from tefmanager.interfaces.amqp import Delivered, Message
from tefmanager.interfaces.meter import NoMeter
from tefmanager.interfaces.policy import Queues
from tests.unit.support.outages import Told

ASKER = ReplyTo(b"asker", b"1")
WORKER = WorkerInfo("w", "w", WorkerStatus.WORKING, 1, "g", "t", 0.0)


class Slow:
    """A publisher whose broker confirms when it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[Message, Deferred[Delivered]]] = []

    async def send(self, queue: bytes, message: Message) -> Delivered:
        """Send it, some time."""
        self.sent.append((message, Deferred()))
        return await self.sent[-1][1]

    def responses(self) -> list[Any]:
        """Return what was answered, so far."""
        return [json.loads(message.body)["response"] for message, _ in self.sent]


@pytest.fixture
def slow() -> Slow:
    """A publisher."""
    return Slow()


@pytest.fixture
def effector(slow: Slow) -> Effector:
    """An effector on it."""
    return Effector(
        Clock(),
        slow,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        Queues(b"", b"", b""),
        lambda event: None,
        None,  # type: ignore[arg-type]
        lambda failure: failure.raiseException(),
        lambda: None,
        NoMeter(),
        Told().outages,
    )


def test_answers_under_way_are_bounded_together(
    effector: Effector, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks 400 times for large tasks, and takes no answer, is told to ask later, then nothing."""
    monkeypatch.setattr(deliveries, "ANSWERS", 100_000)
    task = json.dumps({"task_data": "x" * 20_000}).encode()
    for _ in range(400):
        effector.carry_out([ReplyWorkers(ASKER, (WORKER,))], {1: task})
    held = sum(len(message.body) for message, _ in slow.sent)
    assert held < 200_000
    large = [response for response in slow.responses() if isinstance(response, list)]
    later = [response for response in slow.responses() if isinstance(response, str)]
    assert (len(large), set(later)) == (5, {"QUESTION_FAILED|too many answers are under way: ask later"})
    assert len(slow.sent) < 100


def test_when_answers_have_arrived_others_are_given(
    effector: Effector, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are confirmed, or lost, are under way no more."""
    monkeypatch.setattr(deliveries, "ANSWERS", 10_000)
    for outcome in (Delivered.CONFIRMED, Delivered.LOST, Delivered.RETURNED):
        slow.sent.clear()
        for _ in range(100):
            effector.carry_out([Reply(ASKER, True)], {})
        for _, sent in list(slow.sent):
            sent.callback(outcome)
    slow.sent.clear()
    effector.carry_out([Reply(ASKER, True)], {})
    assert slow.responses() == [True]


def test_a_stop_waits_for_no_probe(effector: Effector, slow: Slow) -> None:
    """While RabbitMQ is away it does not leave; what has to end is waited for."""
    effector.probe("1")
    assert (len(slow.sent), effector.idle) == (1, True)
    effector.carry_out([Reply(ASKER, True)], {})
    assert not effector.idle


def test_an_answer_that_is_too_large(slow: Slow, effector: Effector) -> None:
    """Who asked for more than fits into a message, here or at the broker, is told to ask for less."""
    Deferred.fromCoroutine(effector.reply(ASKER, "x" * deliveries.LARGEST_ANSWER))
    Deferred.fromCoroutine(effector.reply(ASKER, "y"))
    slow.sent[1][1].callback(Delivered.REFUSED)
    told = [slow.responses()[number].split("|")[0] for number in (0, 2)]
    assert told == ["QUESTION_FAILED", "QUESTION_FAILED"]
    assert "ask for less" in slow.responses()[0]


def test_bodies_that_are_left_out() -> None:
    """The list of workers has their tasks' messages, but for large ones and those that are too many."""
    large, small = b'"' + b"x" * LARGEST + b'"', b'"' + b"x" * (LARGEST - 2) + b'"'
    bodies = {0: large, **dict.fromkeys(range(1, 20), small)}
    infos = [WorkerInfo("w", "w", WorkerStatus.WORKING, n, f"g{n}", "t", 0.0) for n in range(20)]
    found = workers_told(infos, bodies)
    assert found[0]["task"] == {"guid": "g0", "left_out": len(large)}
    assert sum("left_out" not in str(worker["task"])[:100] for worker in found) == ROOM // LARGEST
    assert len(json.dumps(json.loads(msgspec.json.encode(found)))) < 2 * ROOM
