"""What can't be done for a reason of its own is held back with that reason, and everything else goes on."""

from __future__ import annotations

import pytest

from tefmanager import inquiry
from tefmanager.core.model import effects, events
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.core.model.resources import Resource
from tefmanager.core.sharing.heldback import FIRST_PAUSE, LONGEST_PAUSE
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, submitted

DENIED = "resource bad: permission denied"


class Refusing(Grid):
    """A grid whose Etcd refuses whatever needs the resource ``bad``, as long as it is told to.

    Attributes:
        refuses: whether it does.
        tries: how often it was asked for ``bad``.
    """

    refuses = True
    tries = 0

    def _reserve(self, attempt: int, names: tuple[str, ...]) -> list[events.Event]:
        self.tries += "bad" in names
        if self.refuses and "bad" in names:
            return [events.ReservationImpossible(attempt, DENIED)]
        return super()._reserve(attempt, names)


def grid(limits: Limits | None = None) -> Refusing:
    """Return a grid with the resources ``bad``, ``db`` and ``x``, of which there is one each."""
    resources = {name: Resource(name, limit=1) for name in ("bad", "db", "x")}
    return Refusing(limits or Limits(), resources=resources)


def test_others_go_on() -> None:
    """The task is held back, told once, and neither its worker nor anybody else is kept by it."""
    made = grid().say("w", "idle").submit("A", resources=["bad", "db"])
    assert made.logged("TASK_CANNOT_RUN") == [f"TASK_CANNOT_RUN|t|A|{DENIED}"]
    assert made.status("w") == "idle"
    made.submit("B", resources=["db"])
    assert made.guids_sent == ["B"]
    assert made.waiting() == ["A"]
    assert made.logged("RESOURCE_WAIT") == []


def test_what_was_taken_of_it_is_given_back() -> None:
    """Etcd may have refused in the middle of a large claim: the attempt's references are released."""
    made = grid().say("w", "idle").submit("A", resources=["bad", "db"])
    released = [effect for effect in made.effects if isinstance(effect, effects.Release)]
    assert [each.resources for each in released] == [("bad", "db")]
    assert made.core.attempts.releasing == {}


def test_tried_again_more_and_more_slowly() -> None:
    """Pauses double up to the longest one, and the log tells nothing more while the reason is the same."""
    made = grid()
    made.say("w", "idle").submit("A", resources=["bad"])
    for tries in range(2, 7):
        made.wait(min(FIRST_PAUSE * 2 ** (tries - 2), LONGEST_PAUSE) - 0.5).say("w", "idle")
        assert made.tries == tries - 1
        made.wait(0.5)
        assert made.tries == tries
    assert len(made.logged("TASK_CANNOT_RUN")) == 1


def test_runs_once_it_can() -> None:
    """When Etcd refuses no longer, all that waited for the same go, with all workers there are."""
    made = grid()
    made.resource("bad", 5)
    for name in ("v", "w"):
        made.say(name, "idle")
    for guid in ("A", "B"):
        made.submit(guid, resources=["bad"])
    assert made.tries == 1
    made.refuses = False
    made.wait(FIRST_PAUSE)
    assert sorted(made.guids_sent) == ["A", "B"]
    assert len(made.core.pool.impossible) == 0


def test_one_of_many_tries() -> None:
    """However many tasks need the same, and workers are free, Etcd is asked once a pause."""
    made = grid()
    for number in range(20):
        made.say(f"w{number}", "idle")
    made.turn(*(submitted(f"A{number}", resources=["bad"]) for number in range(20)))
    first = made.tries
    made.wait(FIRST_PAUSE + 0.1)
    assert made.tries == first + 1
    made.wait(FIRST_PAUSE)
    assert made.tries == first + 1


def test_a_claim_that_is_held_back_keeps_nobody() -> None:
    """Patience that was lost before counts no longer, nor is any lost while it lasts."""
    made = grid(Limits(patience=10))
    made.say("w", "idle").say("v", "idle")
    made.refuses = False
    made.submit("H", resources=["bad"]).say("w", "working", "H")
    made.submit("A", resources=["bad", "db"]).wait(11)
    made.submit("B", resources=["db"])
    assert made.guids_sent == ["H"], "A has a claim"
    made.refuses = True
    made.say("w", "task_complete").say("w", "idle")
    assert made.guids_sent == ["H", "B"]
    made.say("v", "working", "B").wait(30).say("v", "working", "B")
    made.submit("C", resources=["x"])
    assert made.guids_sent == ["H", "B", "C"]


@pytest.mark.parametrize("memory", [1, 5])
def test_unread_tasks_are_not_read_for_nothing(memory: int) -> None:
    """A backlog that needs the same stays in the database until one of it could be reserved."""
    made = grid(Limits(memory=Memory(tasks=memory)))
    made.on(FakeDatabase())
    for number in range(30):
        made.submit(f"A{number}", resources=["bad"])
    made.submit("B", resources=["db"])
    made.say("w", "idle").say("w", "working", "B")
    assert made.guids_sent == ["B"]
    made.say("v", "idle").wait(60).say("v", "idle")
    assert made.core.backlog.unread > 20
    made.refuses = False
    made.wait(LONGEST_PAUSE).say("v", "idle")
    assert made.guids_sent[:2] == ["B", "A0"]


def test_a_restart_forgets() -> None:
    """The next leadership tries at once, and tells anew."""
    made = grid()
    made.on(FakeDatabase()).say("w", "idle").submit("A", resources=["bad"])
    made.refuses = False
    made.restart().say("w", "idle")
    assert made.guids_sent == ["A"]


def test_an_etcd_that_is_back_is_asked_at_once() -> None:
    """It may be a mended one."""
    made = grid()
    made.say("w", "idle").submit("A", resources=["bad"])
    made.refuses = False
    made.turn(events.ResourcesLost("away"), events.ResourcesRead(dict(made.resources), {}))
    assert made.guids_sent == ["A"]


def test_shown() -> None:
    """Explanation, lists, the task itself, the status and the sender's answer have the reason."""
    made = grid().say("w", "idle").submit("A", resources=["bad", "db"])
    told = inquiry.explain(made.core, "A", made.now)
    assert told is not None
    assert [reason.kind for reason in told.reasons] == ["held_back"]
    assert DENIED in told.text
    assert [task.held_back for task in inquiry.find_tasks(made.core, inquiry.TaskFilter()).tasks] == [
        DENIED
    ]
    held = inquiry.status(made.core, made.now).held_back
    assert [(each.what, each.reason) for each in held] == [("tasks that need bad db", DENIED)]
    assert inquiry.status(made.core, made.now).short == ()
    assert inquiry.resources(made.core, made.now).unknown == ()


def test_nothing_is_kept_of_what_is_over() -> None:
    """When nobody waits for it any more, what was refused is forgotten."""
    made = grid().say("w", "idle").submit("A", resources=["bad"], suite="s").suite("stop_suite", "s")
    made.wait(FIRST_PAUSE * 2)
    assert len(made.core.pool.impossible) == 0


def test_an_attempt_in_flight_asks_again_slowly_as_well() -> None:
    """A task that runs without its references is told with the reason, and gets them when it can."""
    made = grid()
    made.submit("A", resources=["bad"]).say("w", "working", "A")
    assert made.logged("RESERVATION_FAILED") == [f"RESERVATION_FAILED|t|A|1|{DENIED}"]
    first = made.tries
    made.wait(FIRST_PAUSE - 0.5)
    assert made.tries == first
    made.refuses = False
    made.wait(1)
    assert made.held == {1: ("bad",)}
    assert len(made.logged("RESERVATION_FAILED")) == 1


def test_a_task_with_a_reason_of_its_own() -> None:
    """It is set aside in its lane: those that are like it go on, and it comes again after a pause."""
    made = grid().submit("A").submit("B")
    task = made.core.backlog.by_guid["A"]
    made.core.attempts.hold_back(task, "too large", made.now)
    made.say("w", "idle")
    assert made.guids_sent == ["B"]
    assert made.logged("TASK_CANNOT_RUN")[-1] == "TASK_CANNOT_RUN|t|A|too large"
    told = inquiry.explain(made.core, "A", made.now)
    assert told is not None
    assert "too large" in told.text
    made.say("w", "working", "B").say("w", "task_complete").say("w", "idle")
    assert made.guids_sent == ["B"]
    made.wait(FIRST_PAUSE)
    assert made.guids_sent == ["B", "A"]
    assert made.core.attempts.held_back.get(task) is None


def test_a_task_that_was_sent_is_set_aside_when_it_comes_back() -> None:
    """What could not be delivered for a reason of its own does not go to the next worker at once."""
    made = grid().say("w", "idle").submit("A").submit("B")
    task, worker = made.core.backlog.by_guid["A"], made.core.workers.get("w")
    assert task.attempt is not None
    assert worker is not None
    made.core.attempts.hold_back(task, "too large", made.now)
    made.core.attempts.take_back(task.attempt, AttemptEnd.UNDELIVERED, made.now)
    made.core.workers.changed(worker, made.now)
    made.turn()
    assert made.guids_sent == ["A", "B"]


def test_stopping_a_suite_takes_what_is_held_back_along() -> None:
    """A task that is set aside waits like any other."""
    made = grid().submit("A", suite="s")
    made.core.attempts.hold_back(made.core.backlog.by_guid["A"], "too large", made.now)
    made.suite("stop_suite", "s")
    assert made.logged("SUITE_STOPPED") == ["SUITE_STOPPED|s|1"]
    assert len(made.core.attempts.held_back) == 0


class TooLarge(Grid):
    """A grid whose broker takes no message of the task ``A``."""

    def _answers(self, effect: effects.Effect) -> list[events.Event]:
        if isinstance(effect, effects.Publish) and self.core.backlog.by_guid["A"].spec.id == effect.task_id:
            return [events.DispatchImpossible(effect.attempt, "message size 2 is larger than max size 1")]
        return super()._answers(effect)


def test_a_task_that_the_broker_never_takes() -> None:
    """It is held back with the broker's reason, and its worker gets another; no attempt is counted."""
    grid = TooLarge().submit("A").say("w", "idle").submit("B")
    assert grid.logged("DISPATCH_FAILED|t|A|w|message size")
    assert grid.logged("TASK_CANNOT_RUN|t|A|message size")
    assert not grid.logged("WORKER_MISSING")
    assert grid.logged("DISPATCH|t|B|w")
    assert grid.core.backlog.by_guid["A"].attempts == 0
