"""A killed worker's task goes on in seconds: the broker knows that nobody consumes its queue any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tefmanager.core.model import effects, events
from tefmanager.core.model.audience import Audience
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.limits import Limits
from tests.unit.grid import Grid

CONSUMED, DESERTED = Audience(True, 1, 0), Audience(True, 0, 0)
UNREAD, NO_QUEUE = Audience(True, 0, 1), Audience(False, 0, 0)
SOON = 30.0
"""Seconds within which a task goes on."""


class Watched(Grid):
    """The broker tells of each queue what `found` says, or never where that is missing.

    Attributes:
        looks: whose queues it was asked about.
    """

    def __post_init__(self) -> None:
        self.found: dict[str, Audience | None] = {}
        self.looks: list[str] = []
        super().__post_init__()

    def _answers(self, effect: effects.Effect) -> list[events.Event]:
        if not isinstance(effect, effects.LookAt):
            return super()._answers(effect)
        self.looks.append(effect.worker)
        known = effect.worker in self.found
        return [events.Looked(effect.worker, self.found[effect.worker])] if known else []


def grid(*, at: str, found: Audience | None = CONSUMED, **fields: object) -> Watched:
    """Worker w has T, ``dispatched`` or ``working``; v is free."""
    watched = Watched(Limits(dispatch_timeout=1e6, missing_interval=300.0))
    watched.found = {"w": found, "v": CONSUMED}
    watched.resource("db", 1).say("w", "idle").submit("T", **fields)
    if at == "working":
        watched.say("w", "working")
    watched.say("v", "idle")
    return watched


def beat(watched: Watched, seconds: float, **words: str) -> Watched:
    """Let time pass in which the named workers repeat a word, every 20 seconds at the latest."""
    while seconds > 0:
        watched.wait(min(seconds, 10.0))
        for name, word in words.items():
            watched.say(name, word)
        seconds -= 10.0
    return watched


@pytest.mark.parametrize("after", [DESERTED, NO_QUEUE, UNREAD])
def test_killed_at_work_while_another_is_idle(after: Audience) -> None:
    """The task goes to the other one."""
    watched = grid(at="working")
    watched.found["w"] = after
    beat(watched, SOON, v="idle")
    assert watched.sent == [("w", "T"), ("v", "T")] and watched.status("w") == "missing"
    assert watched.logged("QUEUE_DESERTED|w|t|w") and watched.logged("WORKER_MISSING|w|t")


def test_killed_at_work_while_its_resource_is_waited_for() -> None:
    """There is nobody else for its task, but another type waits for what it holds."""
    watched = grid(at="working", resources=["db"])
    watched.say("v", "offline").say("u", "idle", worker_type="other")
    watched.submit("U", task_type="other", resources=["db"])
    watched.found["w"] = DESERTED
    for _ in range(3):
        watched.wait(10.0).say("u", "idle", worker_type="other")
    assert watched.sent[-1] == ("u", "U")


def test_nobody_waits() -> None:
    """Then nothing is asked, beyond what is learned of each worker once."""
    watched = grid(at="working")
    watched.say("v", "working")
    learned = len(watched.looks)
    watched.found["w"] = DESERTED
    beat(watched, 200.0, v="working")
    assert len(watched.looks) == learned <= 2 and watched.status("w") == "working"


@pytest.mark.parametrize(("after", "goes_on"), [(UNREAD, True), (NO_QUEUE, True), (DESERTED, False)])
def test_killed_before_it_began(after: Audience, goes_on: bool) -> None:
    """Where the message stands in its queue still; otherwise somebody has fetched it."""
    watched = grid(at="dispatched")
    watched.found["w"] = after
    beat(watched, SOON, v="idle")
    assert (watched.sent[-1] == ("v", "T")) is goes_on
    assert watched.core.backlog.by_guid["T"].attempts == 1, "what nobody has read was no attempt"


@pytest.mark.parametrize("at", ["dispatched", "working"])
def test_worker_at_whose_queue_nobody_was_ever_seen(at: str) -> None:
    """It fetches its messages."""
    watched = grid(at=at, found=DESERTED)
    beat(watched, 100.0, v="idle")
    assert watched.sent == [("w", "T")]


def test_worker_that_consumes_only_between_tasks() -> None:
    """It cancels its consumer to take one message, so that nobody consumes while it works."""
    watched = grid(at="dispatched")
    watched.found["w"] = DESERTED
    watched.say("w", "working")
    beat(watched, 100.0, v="idle")
    assert watched.sent == [("w", "T")] and not watched.logged("QUEUE_DESERTED")


@pytest.mark.parametrize("seconds", [3, 6, 12])
@pytest.mark.parametrize("at", ["dispatched", "working"])
def test_worker_that_connects_again(at: str, seconds: float) -> None:
    """It says nothing for a while and is not consuming; then it goes on."""
    watched = grid(at=at)
    beat(watched, 15.0, v="idle")
    watched.found["w"] = UNREAD
    watched.wait(seconds)
    watched.found["w"] = CONSUMED
    beat(watched, 60.0, v="idle")
    watched.say("w", "working").say("w", "task_complete")
    assert watched.sent == [("w", "T")] and watched.outcomes == {"T": Outcome.COMPLETED}


def test_worker_that_is_heard_though_nobody_consumes() -> None:
    """Its heartbeats come by another connection."""
    watched = grid(at="working")
    watched.found["w"] = DESERTED
    for _ in range(10):
        watched.wait(20.4).say("w", "working").say("v", "idle")
    assert watched.sent == [("w", "T")]


@pytest.mark.parametrize("silent", [lambda found: found.pop("w"), lambda found: found.update(w=None)])
def test_broker_that_does_not_tell(silent: Callable[[dict[str, Audience | None]], object]) -> None:
    """Nothing follows from that, and only one queue is asked about at a time."""
    watched = grid(at="working")
    silent(watched.found)
    beat(watched, 100.0, v="idle")
    assert watched.sent == [("w", "T")]


def test_liveness_again() -> None:
    """After a time in which nobody could be heard everyone has time to connect again."""
    watched = grid(at="working")
    watched.found["w"] = DESERTED
    watched.wait(19.0).turn(events.DeliveriesResumed())
    assert watched.wait(19.0).sent == [("w", "T")]
