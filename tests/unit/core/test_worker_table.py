"""The table of worker states, row by row: what a worker says, by what the manager holds for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tefmanager.core.model import events
from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import (
    AttemptRow,
    ManagerRow,
    Snapshot,
    TaskRow,
    TaskSpec,
    TaskState,
    WorkerRow,
    WorkerStatus,
)
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, reported, submitted


def dispatched() -> Grid:
    """Worker w has task T, dispatched."""
    return Grid().say("w", "idle").submit("T")


def working() -> Grid:
    """Worker w works at task T."""
    return dispatched().say("w", "working")


# --- holds nothing ---


@pytest.mark.parametrize("word", ["ready", "idle"])
def test_nothing_free(word: str) -> None:
    """Both vocabularies make a worker available."""
    grid = Grid().submit("T").say("w", word)
    assert grid.sent == [("w", "T")]
    assert grid.status("w") == "dispatched"


def test_nothing_working() -> None:
    """A worker that works at something unknown is busy, not available."""
    grid = Grid().say("w", "working").submit("T")
    assert grid.sent == []
    assert grid.status("w") == "working"


def test_nothing_working_at_a_waiting_task() -> None:
    """A worker that names a waiting task has it: the manager had lost track."""
    grid = Grid().submit("T").say("w", "working", "T")
    assert grid.sent == []
    assert grid.waiting() == []
    assert grid.logged("TASK_REGAINED|t|T|w|")
    assert grid.say("w", "task_complete").outcomes == {"T": Outcome.COMPLETED}


@pytest.mark.parametrize("guid", ["finished", "never heard of"])
def test_nothing_working_at_a_finished_or_unknown_task(guid: str) -> None:
    """It is only busy."""
    grid = Grid().say("w", "idle").submit("finished").say("w", "working").say("w", "task_complete")
    grid.say("v", "working", guid).submit("other")
    assert grid.status("v") == "working"
    assert grid.outcomes == {"finished": Outcome.COMPLETED}
    assert grid.waiting() == ["other"]


def test_nothing_complete() -> None:
    """A completion that fits nothing is logged and changes no task."""
    grid = Grid().say("w", "task_complete")
    assert grid.logged("COMPLETION_IGNORED|w|")
    assert grid.status("w") == "working"


# --- T dispatched ---


@pytest.mark.parametrize("guid", [None, "T"])
def test_dispatched_working(guid: str | None) -> None:
    """T is working, named or not, and its time limit starts."""
    grid = dispatched().say("w", "working", guid)
    assert grid.status("w") == "working"
    assert grid.logged("TASK_WORKING|t|T|w|")


@pytest.mark.parametrize("word", ["ready", "idle"])
def test_dispatched_heartbeat_that_crossed(word: str) -> None:
    """A stale heartbeat only refreshes the worker: the task stays dispatched, nothing is sent twice."""
    grid = dispatched().say("w", word).wait(29).say("w", word)
    assert grid.status("w") == "dispatched"
    assert grid.guids_sent == ["T"]


def test_dispatch_timeout() -> None:
    """Without *working* in time T is taken back and dispatched again, to another if there is one."""
    grid = dispatched().say("v", "idle").wait(29.9)
    assert grid.guids_sent == ["T"]
    grid.wait(0.2)
    assert grid.sent == [("w", "T"), ("v", "T")]
    assert grid.logged("DISPATCH_TIMEOUT|t|T|w|1")


def test_dispatch_timeout_of_the_only_worker() -> None:
    """A worker that was heard meanwhile gets T again."""
    grid = dispatched().wait(20).say("w", "idle").wait(11)
    assert grid.sent == [("w", "T"), ("w", "T")]


@pytest.mark.parametrize("guid", [None, "T"])
def test_dispatched_again_to_the_same_worker(guid: str | None) -> None:
    """A slow worker to which T went twice does T at the first, and the second is not the next task."""
    grid = dispatched().wait(20).say("w", "idle").wait(11).say("w", "working", guid)
    assert grid.logged("TASK_WORKING|t|T|w|2")
    grid.say("w", "ready")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    grid.submit("U").say("w", "working", guid).say("w", "task_complete", guid)
    assert grid.waiting() == ["U"]
    grid.say("w", "idle")
    assert grid.sent == [("w", "T"), ("w", "T"), ("w", "U")]
    assert grid.outcomes == {"T": Outcome.COMPLETED}


def test_dispatched_complete() -> None:
    """A quick worker may say *task_complete* only."""
    grid = dispatched().say("w", "task_complete")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.status("w") == "working"
    assert grid.say("w", "idle").status("w") == "idle"


def test_dispatched_complete_redelivered() -> None:
    """A redelivered completion that names nothing may be the one of the task before."""
    grid = dispatched().say("w", "task_complete", redelivered=True)
    assert grid.outcomes == {}
    assert grid.say("w", "task_complete", "T", redelivered=True).outcomes == {"T": Outcome.COMPLETED}


# --- T working ---


def test_working_heartbeat() -> None:
    """A worker that goes on working keeps its task."""
    grid = working()
    for _ in range(5):
        grid.wait(60).say("w", "working")
    assert grid.status("w") == "working"
    assert grid.guids_sent == ["T"]


def test_working_complete() -> None:
    """T is done; the worker is free when it says so, and no sooner."""
    grid = working().say("w", "task_complete").submit("U")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.guids_sent == ["T"]
    assert grid.say("w", "idle").guids_sent == ["T", "U"]


def test_working_ready() -> None:
    """A README worker has no other way to say that it is done; it is free at once."""
    grid = working().submit("U").say("w", "ready")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.guids_sent == ["T", "U"]


def test_working_idle_and_nothing_else() -> None:
    """T was given up: it waits again and is dispatched again."""
    grid = working().say("w", "idle").wait(1.9)
    assert grid.guids_sent == ["T"]
    grid.wait(0.2)
    assert grid.guids_sent == ["T", "T"]
    assert grid.logged("TASK_RELEASED|t|T|w|1|given_up")


@pytest.mark.parametrize("word", ["working", "task_complete"])
def test_working_idle_that_crossed(word: str) -> None:
    """An idle heartbeat that crossed *working* means nothing, if something else follows in time."""
    grid = working().say("w", "idle").wait(1.5).say("w", word).wait(1.5)
    assert grid.guids_sent == ["T"]
    assert not grid.logged("TASK_RELEASED")


def test_working_complete_redelivered_of_the_task_before() -> None:
    """A completion told twice does not finish the next task: *working* follows in the same order."""
    grid = working().say("w", "task_complete").say("w", "idle").submit("U").say("w", "working")
    for word in ("task_complete", "idle", "working"):
        grid.say("w", word, redelivered=True)
    grid.wait(10)
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.status("w") == "working"


def at_work_since_before() -> Grid:
    """Worker w works at task T since before this leadership, which has not heard it say so."""
    spec = TaskSpec(1, "T", "t", 1.0, (), None, None, 0.0)
    task = TaskRow(spec, TaskState.WORKING, 1, attempt=1, worker="w", dispatched=0.0, started=0.0)
    worker = WorkerRow("w", "t", "w", WorkerStatus.WORKING, 0.0)
    database = FakeDatabase()
    database.rows.manager = ManagerRow(task_ids=2, attempt_ids=2)
    database.rows.tasks[1], database.rows.workers["w"] = (task, b"T"), worker
    grid = Grid().on(database).restart()
    grid.guids[1] = "T"
    return grid


def test_working_complete_redelivered_and_true() -> None:
    """A redelivered completion that nothing contradicts is believed after the grace."""
    grid = at_work_since_before().say("w", "task_complete", redelivered=True)
    grid.say("w", "idle", redelivered=True)
    assert grid.outcomes == {}
    assert grid.wait(2.1).outcomes == {"T": Outcome.COMPLETED}
    assert grid.say("w", "idle").status("w") == "idle"


@pytest.mark.parametrize("word", ["task_complete", "ready"])
def test_working_first_hand_and_complete_redelivered(word: str) -> None:
    """What was told before decides nothing against *working* heard first-hand; the next word does."""
    grid = working().say("w", word, redelivered=True).say("w", "idle", redelivered=True).wait(10.0)
    assert (grid.outcomes, grid.status("w")) == ({}, "working")
    grid.say("w", "working").wait(10.0)
    assert (grid.outcomes, grid.status("w")) == ({}, "working")
    grid.say("w", word, redelivered=True).say("w", "idle")
    assert (grid.outcomes, grid.status("w")) == ({"T": Outcome.COMPLETED}, "idle")


@pytest.mark.parametrize("word", ["task_complete", "ready"])
def test_doubt_outlives_a_crash(word: str) -> None:
    """What a message that was told again may mean stands in the row: the message is not needed any more."""
    grid = at_work_since_before().say("w", word, redelivered=True).restart()
    assert grid.outcomes == {}
    assert grid.wait(2.1).outcomes == {"T": Outcome.COMPLETED}


def test_doubt_is_refuted_after_a_crash() -> None:
    """What follows in the queue still counts: the worker has begun the next task before."""
    grid = at_work_since_before().say("w", "task_complete", redelivered=True).restart()
    grid.say("w", "working", redelivered=True).wait(5.0)
    assert (grid.outcomes, grid.status("w")) == ({}, "working")
    assert grid.restart().wait(5.0).outcomes == {}


def test_doubt_against_what_was_heard_waits_for_new_words_after_a_crash_too() -> None:
    """*working* was heard first-hand, so what was told again decides nothing by itself."""
    grid = at_work_since_before().say("w", "working").say("w", "task_complete", redelivered=True).restart()
    assert grid.wait(10.0).outcomes == {}
    assert grid.say("w", "working").wait(10.0).outcomes == {}
    assert grid.say("w", "task_complete").outcomes == {"T": Outcome.COMPLETED}


# --- either ---


@pytest.mark.parametrize("start", [dispatched, working])
def test_offline(start: Callable[[], Grid]) -> None:
    """The worker is removed, T is released and queued again."""
    grid = start().say("w", "offline")
    assert grid.core.workers.get("w") is None
    assert grid.waiting() == ["T"]
    assert grid.logged("CONTROL_SUCCESS|WORKER_OFFLINE|w")
    assert grid.say("v", "idle").sent[-1] == ("v", "T")


def test_working_and_missing() -> None:
    """A silent worker is missing, T is released and goes to another."""
    grid = working().say("v", "working").wait(50).say("v", "idle").wait(41)
    assert grid.status("w") == "missing"
    assert grid.sent == [("w", "T"), ("v", "T")]
    assert grid.logged("WORKER_MISSING|w|t")


def test_missing_worker_gets_its_task_back() -> None:
    """Heard again with *working*, it gets T back while T still waits: it evidently still runs it."""
    grid = working().wait(91)
    assert grid.status("w") == "missing"
    assert grid.waiting() == ["T"]
    grid.say("w", "working")
    assert grid.waiting() == []
    assert grid.logged("TASK_REGAINED|t|T|w|2")
    assert grid.say("w", "task_complete").outcomes == {"T": Outcome.COMPLETED}
    assert grid.guids_sent == ["T"]


def test_missing_worker_whose_task_went_on() -> None:
    """It does not get T back from another worker; the first completion wins, the second is only logged."""
    grid = working().wait(91).say("v", "idle").say("w", "working")
    assert grid.sent == [("w", "T"), ("v", "T")]
    grid.say("w", "task_complete")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    grid.say("v", "working").say("v", "task_complete")
    assert grid.logged("COMPLETION_IGNORED|v|T|")
    assert grid.say("v", "idle").status("v") == "idle"


def test_stalled() -> None:
    """T goes to a different worker; the stalled one gets no work until it says that it is free."""
    grid = Grid().say("w", "idle").submit("T", time_limit=5.0).say("w", "working").wait(5.1)
    assert grid.status("w") == "stalled"
    assert grid.logged("WORKER_STALLED|w|t|T")
    grid.submit("U").say("w", "working").wait(1)
    assert grid.guids_sent == ["T"]
    grid.say("w", "task_complete", "T").say("w", "idle")
    assert grid.sent == [("w", "T"), ("w", "U")]


@pytest.mark.parametrize("gone", [5.1, 95.0])
def test_idle_of_a_stalled_or_missing_worker_may_overtake_its_end(gone: float) -> None:
    """Its end never counts for the next task: the next *idle* says that T was given up."""
    limit = 5.0 if gone < 90 else 500.0
    grid = Grid().say("w", "idle").submit("T", time_limit=limit).say("w", "working").wait(gone)
    grid.say("v", "idle").say("v", "working").submit("U").say("w", "idle")
    assert grid.guids_sent == ["T", "T"]
    grid.say("w", "task_complete").say("w", "idle")
    assert (grid.outcomes, grid.sent[-1]) == ({"T": Outcome.COMPLETED}, ("w", "U"))


def test_a_goodbye_told_again_is_no_end_of_the_task() -> None:
    """A task of which its worker said only that it is free is not done because the worker may have left."""
    grid = Grid().say("w", "idle").submit("T").say("w", "working").say("w", "idle")
    grid.wait(1.0).say("w", "offline", redelivered=True).wait(10.0)
    assert grid.outcomes == {}
    grid.say("v", "idle")
    assert grid.sent[-1] == ("v", "T")


def test_what_was_never_begun_is_waited_for_after_a_restart() -> None:
    """What stands in its queue, done by another, never counts for the next task."""
    grid = Grid().on(FakeDatabase()).say("v", "idle").submit("T", time_limit=5.0).say("v", "working")
    grid.wait(5.1).say("w", "idle")
    assert grid.sent[-1] == ("w", "T")
    grid.say("v", "task_complete").submit("U").restart().say("w", "idle").wait(5.0)
    assert grid.sent[-1] == ("w", "T")
    grid.say("w", "working").say("w", "task_complete").say("w", "idle")
    assert grid.sent[-1] == ("w", "U") and grid.outcomes == {"T": Outcome.COMPLETED}


def test_stalled_worker_that_gave_up_is_free_at_its_second_idle() -> None:
    """The first may have crossed its *working*."""
    grid = Grid().say("w", "idle").submit("T", time_limit=5.0).say("w", "working").wait(5.1).submit("U")
    assert grid.say("w", "idle").wait(20).guids_sent == ["T"]
    assert grid.say("w", "idle").sent[-1] == ("w", "U")


def test_time_limit_default() -> None:
    """A task that names no limit has the worker limit, counted from *working*."""
    grid = Grid(Limits(time_limit=100)).say("w", "idle").submit("T").wait(20).say("w", "working")
    grid.wait(60).say("w", "working").wait(39.9)
    assert grid.status("w") == "working"
    assert grid.wait(0.2).status("w") == "stalled"


def test_late_completion_of_a_waiting_task() -> None:
    """A stalled worker that completes after all finishes T where it waits."""
    grid = Grid().say("w", "idle").submit("T", time_limit=5.0).say("w", "working").wait(6)
    assert grid.waiting() == ["T"]
    grid.say("w", "task_complete")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.waiting() == []
    assert grid.say("w", "idle").status("w") == "idle"


def superseded() -> Grid:
    """Worker w works at task T, which worker v has completed late."""
    grid = Grid(Limits(time_limit=30, dispatch_timeout=1e9, missing_interval=1e9, max_attempts=0))
    grid.say("v", "idle").submit("T").say("v", "working").wait(31)
    grid.say("w", "idle").say("w", "working").say("v", "task_complete")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    return grid.submit("next")


def test_idle_that_crossed_working_at_a_finished_task() -> None:
    """The worker goes on with it: another one's name would come to stand on what it says then."""
    grid = superseded().say("w", "idle")
    assert grid.guids_sent == ["T", "T"]
    assert grid.say("w", "working").say("w", "task_complete").logged("TASK_COMPLETED|t|next") == []
    assert grid.say("w", "idle").sent[-1] == ("w", "next")


def test_idle_after_another_has_completed_the_task() -> None:
    """It has given the task up: a heartbeat later that is clear."""
    grid = superseded().say("w", "idle").wait(20).say("w", "idle")
    assert grid.sent[-1] == ("w", "next")


def test_ready_after_another_has_completed_the_task() -> None:
    """Who says *ready* never says so in the midst of a task."""
    assert superseded().say("w", "ready").sent[-1] == ("w", "next")


def test_message_left_in_the_queue_of_a_slow_worker() -> None:
    """It gets nothing else meanwhile: what it says is about the task that stands in its queue."""
    grid = dispatched().wait(29).say("w", "idle").say("v", "idle").wait(2).say("v", "working")
    assert grid.sent == [("w", "T"), ("v", "T")]
    grid.submit("U").say("w", "idle")
    assert grid.status("w") == "dispatched"
    grid.say("w", "working").say("w", "task_complete")
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.waiting() == ["U"]
    assert grid.say("w", "idle").sent[-1] == ("w", "U")


def test_given_up_by_a_heartbeat_that_crossed() -> None:
    """An *idle* that crossed its *working*: the worker gets nothing else, and its end counts."""
    grid = dispatched().say("w", "working").say("w", "idle").say("v", "idle").wait(3)
    assert grid.sent[-1] == ("v", "T")
    grid.submit("U").wait(10)
    assert grid.waiting() == ["U"]
    grid.say("w", "task_complete")
    assert grid.outcomes == {"T": "completed"}
    assert grid.say("w", "idle").sent[-1] == ("w", "U")


def test_given_up_and_sent_again() -> None:
    """A worker that gave up gets the same task at once, and another one when it is free again."""
    grid = dispatched().say("w", "working").say("w", "idle").wait(3)
    assert grid.sent == [("w", "T")] * 2
    grid.submit("U").say("w", "working").say("w", "task_complete").say("w", "idle")
    assert grid.outcomes == {"T": "completed"}
    assert grid.waiting() == ["U"]
    assert grid.wait(3).sent[-1] == ("w", "U")


def test_message_that_is_taken_after_a_restart() -> None:
    """A worker is not heard for long, then says it is free, and begins what stood in its queue."""
    grid = dispatched().wait(29).say("w", "idle").say("v", "idle").wait(2).say("v", "working")
    grid.submit("U").wait(60).say("w", "idle").say("w", "working").wait(5)
    assert grid.waiting() == ["U"]
    grid.say("w", "task_complete")
    assert grid.outcomes == {"T": "completed"}


def test_message_that_never_came() -> None:
    """A worker that is heard to be free, and begins nothing, does not have it: it is free again."""
    grid = dispatched().wait(29).say("w", "idle").say("v", "idle").wait(2).say("v", "working")
    grid.submit("U").wait(28).say("w", "idle").wait(5)
    assert grid.waiting() == ["U"]
    grid.say("w", "idle").wait(1)
    assert grid.waiting() == ["U"]
    grid.wait(2)
    assert grid.sent[-1] == ("w", "U")
    grid.say("w", "working").say("w", "task_complete")
    assert grid.outcomes == {"U": Outcome.COMPLETED}


# --- who they are ---


def test_all_of_the_task_before_comes_twice() -> None:
    """What does not name the task begins and ends nothing when it may be the task's before."""
    grid = dispatched().say("w", "working").say("w", "task_complete").say("w", "idle").submit("U")
    for word in ("working", "task_complete", "idle"):
        grid.say("w", word, redelivered=True)
    grid.wait(25.0)
    assert "U" not in grid.outcomes
    assert grid.status("w") == "dispatched"
    assert grid.say("w", "working").say("w", "task_complete").outcomes["U"] is Outcome.COMPLETED


def test_dispatched_working_redelivered_and_true() -> None:
    """The next heartbeat tells; the dispatch timeout counts from the doubtful message."""
    grid = dispatched().wait(20.0).say("w", "working", redelivered=True).wait(20.0)
    assert grid.status("w") == "dispatched"
    assert grid.say("w", "working").status("w") == "working"


def test_dispatched_working_redelivered_and_named() -> None:
    """What names the task needs no doubt."""
    assert dispatched().say("w", "working", "T", redelivered=True).status("w") == "working"


@pytest.mark.parametrize("end", ["ready", "task_complete"])
def test_known_begun_and_done_in_one_turn(end: str) -> None:
    """A task that comes with all its story behind it is written as one that waited and is done."""
    grid = Grid().say("w", "working")
    grid.turn(
        *(submitted("T"), reported("w", "working", "T")),
        reported("w", end, "T" if end == "task_complete" else None),
    )
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    [(row, _)] = [entry for changes in grid.changes for entry in changes.accepted]
    assert (row.state, row.attempt, row.worker) == (TaskState.WAITING, None, None)


def test_task_that_comes_twice_around_its_end() -> None:
    """A redelivered copy is a duplicate, also in the turn in which the task is done."""
    grid = working().turn(reported("w", "task_complete"), submitted("T", redelivered=True))
    assert grid.outcomes == {"T": Outcome.COMPLETED}
    assert grid.logged("TASK_DUPLICATE|t|T|finished")
    assert grid.waiting() == []


def test_stalled_worker_does_not_regain_after_a_restart() -> None:
    """What it let stall goes to another, though nobody remembers that it is stalled."""
    task = TaskRow(TaskSpec(1, "T", "t", 1.0, (), None, None, 0.0), attempts=1, avoid=("w",))
    worker = WorkerRow("w", "t", "w", WorkerStatus.MISSING, 0.0)
    taken = AttemptRow(1, 1, "T", 1, "w", 0.0, 0.0, 0.0, AttemptEnd.STALLED, unresolved=True)
    grid = Grid(snapshot=Snapshot(tasks=(task,), workers=(worker,), unresolved=(taken,)))
    assert grid.say("w", "working").waiting() == ["T"]
    assert grid.say("v", "idle").sent == [("v", "T")]


def test_regained_tasks_run_out_of_attempts_too() -> None:
    """Each time a task is given back counts, however its worker came by it."""
    grid = Grid(Limits(max_attempts=3)).say("w", "idle").submit("T").say("w", "working")
    for _ in range(2):
        assert grid.outcomes == {}
        grid.wait(95.0).say("w", "working")
    assert grid.status("w") == "working"
    assert grid.wait(95.0).outcomes == {"T": Outcome.DEAD}


def test_undelivered_dispatches_do_not_count() -> None:
    """A task that nobody has got is tried for ever: broken workers must not kill it."""
    grid = Grid(Limits(max_attempts=2), confirm=False).submit("T")
    for number in range(5):
        grid.say(f"w{number}", "idle").turn(events.DispatchFailed(grid.published[-1].attempt, "gone"))
    assert (grid.outcomes, grid.waiting()) == ({}, ["T"])
    assert len(grid.logged("TASK_RELEASED")) == 5


def test_another_type_while_etcd_is_asked() -> None:
    """A worker that takes other tasks from now on does not get the one it was booked for."""
    grid = Grid(resources={"r": Resource("r", limit=1)})
    grid.grant = False
    grid.say("w", "idle").submit("T", resources=["r"]).say("w", "idle", worker_type="other")
    grid.turn(events.ReservationGranted(1, ("r",)))
    assert (grid.sent, grid.waiting()) == ([], ["T"])


def test_missing_for_long() -> None:
    """A worker that does not come back is forgotten; one that does is not, nor one that only just went."""
    grid = Grid(Limits(forget_after=3600.0)).say("old", "idle").say("back", "idle").submit("T").wait(95.0)
    grid.say("back", "idle").wait(3500.0).say("new", "idle").say("back", "idle")
    grid.wait(100.0).turn(events.Pass())
    assert grid.logged("WORKER_FORGOTTEN") == ["WORKER_FORGOTTEN|old|t"]
    assert sorted(worker.name for worker in grid.core.workers) == ["back", "new"]


def test_short_dispatch_timeout() -> None:
    """A worker is not missing because its next heartbeat is later than the dispatch timeout."""
    grid = Grid(Limits(dispatch_timeout=5.0)).say("w", "idle").submit("T").wait(6.0)
    assert grid.logged("DISPATCH_TIMEOUT|t|T|w|")
    assert grid.logged("WORKER_MISSING") == []


def test_registration_needs_a_type() -> None:
    """An unknown worker without a type is not taken in; a known one may leave it out."""
    grid = Grid().say("w", "idle", worker_type=None)
    assert grid.core.workers.get("w") is None
    assert grid.logged("CONTROL_FAILED|PARSE_JSON|MISSING_WORKER_TYPE|w")
    grid.say("w", "idle").say("w", "working", worker_type=None)
    assert grid.logged("WORKER_REGISTERED|w|t|w")
    assert grid.status("w") == "working"


def test_known_name_with_another_exchange() -> None:
    """It is updated, and dispatched to where it is now."""
    grid = Grid().say("w", "idle").say("w", "idle", address="elsewhere").submit("T")
    assert grid.sent == [("elsewhere", "T")]


def test_known_name_with_another_type() -> None:
    """It takes the new type's tasks."""
    grid = Grid().say("w", "idle").say("w", "idle", worker_type="u").submit("T").submit("U", task_type="u")
    assert grid.guids_sent == ["U"]


def test_unknown_status_changes_nothing() -> None:
    """It is logged; the worker does not even become known by it."""
    grid = Grid().say("w", "dancing")
    assert grid.core.workers.get("w") is None
    assert grid.logged("CONTROL_FAILED|UNKNOWN_STATUS|w|dancing")


def test_offline_of_nobody() -> None:
    """Leaving is harmless for one that was never there."""
    assert Grid().say("w", "offline").logged("CONTROL_SUCCESS|WORKER_OFFLINE|w")


# --- attempts ---


def test_out_of_attempts() -> None:
    """A task given back too often is dead, and no worker gets it any more."""
    grid = Grid(Limits(max_attempts=3)).submit("T")
    for number in range(4):
        grid.say(f"w{number}", "idle").say(f"w{number}", "working").say(f"w{number}", "offline")
    assert len(grid.sent) == 3
    assert grid.outcomes == {"T": Outcome.DEAD}
    assert grid.logged("TASK_DEAD|t|T|3")


def test_attempts_without_end() -> None:
    """With 0 a task is tried for ever."""
    grid = Grid(Limits(max_attempts=0)).submit("T")
    for number in range(20):
        grid.say(f"w{number}", "idle").say(f"w{number}", "offline")
    assert len(grid.sent) == 20
    assert grid.waiting() == ["T"]


def test_released_task_keeps_its_place() -> None:
    """A task given back goes before the ones that came after it."""
    grid = dispatched().submit("U").submit("V").say("w", "offline").say("v", "idle")
    assert grid.guids_sent == ["T", "T"]
