"""What is told of a manager when somebody asks."""

from __future__ import annotations

import json

import msgspec

from tefmanager import inquiry
from tefmanager.core.model import events
from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import AttemptRow, FinishedRow, TaskRow, TaskSpec
from tefmanager.protocol.messages import ManagerState
from tefmanager.protocol.verdicts import Result
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, finish, reported


def explain(grid: Grid, guid: str, row: TaskRow | None = None) -> inquiry.Explanation:
    """Explain a task that is there."""
    found = inquiry.explain(grid.core, guid, grid.now, row)
    assert found is not None
    return found


def kinds(grid: Grid, guid: str) -> list[str]:
    """Return the kinds of reasons that keep a task."""
    return [reason.kind for reason in explain(grid, guid).reasons]


def unread_grid() -> Grid:
    """Return a grid of 40 tasks of suite s and 2 of suite u, of which hardly any is in memory."""
    grid = Grid(Limits(memory=Memory(tasks=4, first=1, most=2))).on(FakeDatabase())
    for number in range(40):
        grid.submit(f"T{number}", suite="s")
    return grid.submit("U1", suite="u").submit("U2", suite="u")


# --- status ---


def test_status_counts_what_waits_and_who_works() -> None:
    """Numbers are by type, suite and priority, and every status of workers is there."""
    grid = Grid().say("w", "idle").submit("A", suite="s").say("w", "working", "A")
    grid.submit("B", suite="s", priority=5.0).submit("C", task_type="x").wait(10)
    told = inquiry.status(grid.core, grid.now)
    assert (told.state, told.working, told.dispatched, told.dead_lettering) == ("running", 1, 0, 0)
    assert told.workers == {"idle": 0, "dispatched": 0, "working": 1, "stalled": 0, "missing": 0}
    assert told.worker_types == {"t": 0}
    assert told.waiting.total == 2
    assert told.waiting.by_type == {"t": 1, "x": 1}
    assert told.waiting.by_suite == {"s": 1, "": 1}
    assert list(told.waiting.by_priority.items()) == [("5", 1), ("1", 1)]
    assert told.waiting.oldest == told.active_since == told.time - 10


def test_long_priorities_are_told_apart() -> None:
    """Some count by the date or the time; none of them is rounded to another."""
    grid = Grid().submit("A", priority=20261127.0).submit("B", priority=20261128.0)
    told = inquiry.status(grid.core, grid.now)
    assert told.waiting.by_priority == {"20261128": 1, "20261127": 1}


def test_status_tells_since_when_the_state_is() -> None:
    """Also in the next leadership; one that was set before anybody kept that has no known beginning."""
    grid = Grid().on(FakeDatabase())
    assert inquiry.status(grid.core, grid.now).state_since is None
    grid.wait(5).set_state(ManagerState.PAUSED).wait(5).set_state(ManagerState.PAUSED)
    told = inquiry.status(grid.core, grid.now)
    assert (told.state, told.state_since) == ("paused", told.time - 5)
    grid.wait(5).restart()
    assert inquiry.status(grid.core, grid.now).state_since == told.state_since


def test_tasks_that_are_being_reserved_are_counted_as_waiting() -> None:
    """A task is nowhere between its lane and its worker that is not counted."""
    grid = Grid(grant=False, resources={"r": Resource("r", limit=1)})
    grid.turn(events.ResourcesRead(dict(grid.resources), {}))
    grid.say("w", "idle").submit("A", suite="s", resources=["r"])
    waiting = inquiry.status(grid.core, grid.now).waiting
    assert (waiting.total, waiting.by_type, waiting.by_suite) == (1, {"t": 1}, {"s": 1})
    assert inquiry.find_tasks(grid.core, inquiry.TaskFilter()).tasks[0].state == "reserving"
    assert kinds(grid, "A") == ["reserving"]


def test_unread_tasks_are_counted() -> None:
    """Of a large backlog all is counted, though little is in memory."""
    grid = unread_grid()
    waiting = inquiry.status(grid.core, grid.now).waiting
    assert waiting.unread > 30
    assert (waiting.total, waiting.by_suite) == (42, {"s": 40, "u": 2})
    assert waiting.by_priority_of == 42 - waiting.unread


def test_suites() -> None:
    """A suite is listed while something of it is unfinished, or it is paused."""
    grid = Grid().say("w", "idle").submit("A", suite="s").submit("B", suite="s").suite("pause_suite", "p")
    told = inquiry.suites(grid.core)
    assert told.total == 2
    assert [(each.suite, each.paused, each.waiting, each.dispatched) for each in told.suites] == [
        ("s", False, 1, 1),
        ("p", True, 0, 0),
    ]
    assert inquiry.suites(grid.core, at_most=1).suites == told.suites[:1]


# --- workers ---


def test_workers_with_what_they_are_at() -> None:
    """Workers are listed by type and name, with their task and how long they are silent."""
    grid = Grid().say("w", "idle").say("v", "idle", worker_type="x").submit("A").wait(7)
    told = inquiry.workers(grid.core, grid.now)
    assert [(each.name, each.task, each.status, each.silent) for each in told.workers] == [
        ("w", "A", "dispatched", 7.0),
        ("v", None, "idle", 7.0),
    ]
    assert [each.name for each in inquiry.workers(grid.core, grid.now, worker_type="x").workers] == ["v"]
    assert [each.name for each in inquiry.workers(grid.core, grid.now, status="idle").workers] == ["v"]
    assert inquiry.workers(grid.core, grid.now, at_most=1).total == 2


def test_workers_in_trouble_come_first() -> None:
    """Where that is asked for, a missing worker is not left out of a list that is too short for all."""
    grid = Grid().say("a", "idle").say("z", "idle").wait(80).say("a", "idle").wait(20)
    assert grid.status("z") == "missing"
    [told] = inquiry.workers(grid.core, grid.now, at_most=1, worst_first=True).workers
    assert told.name == "z"


# --- tasks ---


def test_tasks_in_flight_come_first() -> None:
    """Tasks that wait follow in the order in which they are likely to go."""
    grid = Grid().say("w", "idle").submit("A").submit("B").submit("C", priority=9.0)
    told = inquiry.find_tasks(grid.core, inquiry.TaskFilter())
    assert [(task.guid, task.state, task.worker) for task in told.tasks] == [
        ("A", "dispatched", "w"),
        ("C", "waiting", None),
        ("B", "waiting", None),
    ]
    assert (told.total, told.unread, told.complete) == (3, 0, True)
    assert inquiry.find_tasks(grid.core, inquiry.TaskFilter(), at_most=1).tasks == told.tasks[:1]


def test_tasks_that_fit() -> None:
    """Type, suite and state can be asked for."""
    grid = Grid().say("w", "idle").submit("A").submit("B", suite="s").submit("C", task_type="x")

    def guids(**wanted: str) -> list[str]:
        return [task.guid for task in inquiry.find_tasks(grid.core, inquiry.TaskFilter(**wanted)).tasks]

    assert guids(task_type="t") == ["A", "B"]
    assert guids(suite="s") == ["B"]
    assert guids(state="waiting") == ["B", "C"]
    assert guids(state="dispatched") == ["A"]
    assert guids(task_type="x", suite="s") == []


def test_unread_tasks_that_fit_are_counted() -> None:
    """The total of a list counts what is not in memory."""
    told = inquiry.find_tasks(unread_grid().core, inquiry.TaskFilter(suite="s"))
    assert told.total == 40
    assert told.unread == 40 - len(told.tasks)
    assert told.unread > 30


def test_a_task_with_its_attempts() -> None:
    """Attempts that ended and the one under way stand in their order."""
    grid = Grid().say("w", "idle").submit("A").say("w", "working", "A")
    task = grid.core.backlog.by_guid["A"]
    said = (Result.ERROR, "no disk", '{"free": 0}')
    ended = AttemptRow(7, 1, "A", 1, "v", 1.0, None, 2.0, AttemptEnd.ENVIRONMENT, False, *said)
    told = inquiry.describe_task(inquiry.task_in_memory(grid.core, task), [ended], task.attempt)
    assert [(each.id, each.worker, each.end) for each in told.attempts] == [
        (7, "v", "environment"),
        (1, "w", None),
    ]
    told_of = [(each.result, each.message, each.details) for each in told.attempts]
    assert json.loads(msgspec.json.encode(told_of)) == [["error", "no disk", {"free": 0}], [None] * 3]


def test_a_task_in_history() -> None:
    """A row of history shows how and when the task ended."""
    spec = TaskSpec(1, "A", "t", 1.0, ("r",), "s", 5.0, 100.0)
    told = inquiry.finished_task(
        FinishedRow(TaskRow(spec, attempts=2), Outcome.COMPLETED, 200.0, Result.FAILED, "no")
    )
    assert (told.state, told.finished, told.attempts, told.time_limit) == ("completed", 200.0, 2, 5.0)
    assert (told.result, told.message) == ("failed", "no")


def test_progress_is_shown_with_the_task() -> None:
    """As long as its attempt is under way: what the worker said last."""
    grid = Grid().say("w", "idle").submit("A").say("w", "working", "A", progress="1 of 3")
    [task] = inquiry.find_tasks(grid.core, inquiry.TaskFilter()).tasks
    assert task.progress == "1 of 3"


# --- resources ---


def test_who_holds_a_resource_and_who_waits() -> None:
    """Our holders are named with their tasks; the rest is other programs'."""
    grid = Grid(resources={"r": Resource("r", held=1, limit=2)}).say("w", "idle").say("v", "idle")
    grid.submit("A", resources=["r"]).submit("B", resources=["r"]).wait(3)
    [told] = inquiry.resources(grid.core, grid.now).resources
    assert (told.held, told.limit, told.others, told.waiting) == (2, 2, 1, 1)
    assert [(each.guid, each.worker, each.state) for each in told.holders] == [("A", "w", "dispatched")]
    assert [(each.guid, each.since) for each in told.waiters] == [("B", grid.now.wall - 3)]


def test_a_reference_on_its_way_back_is_ours() -> None:
    """Until Etcd has answered, a finished task's reference is listed as being released."""
    grid = Grid(grant=False).say("w", "idle").submit("A", resources=["r"])
    grid.turn(events.ResourcesRead({"r": Resource("r", limit=1)}, {}))
    grid.turn(events.ReservationGranted(1, ("r",)), events.ResourcesSeen({"r": Resource("r", 1, 1)}))
    grid.say("w", "task_complete")
    [told] = inquiry.resources(grid.core, grid.now).resources
    assert [(each.attempt, each.guid, each.state) for each in told.holders] == [(1, None, "releasing")]
    assert told.others == 0


def test_names_without_an_entry() -> None:
    """A name that tasks stand at and that is not in Etcd is told apart."""
    grid = Grid(Limits(hold_unknown=True)).say("w", "idle").submit("A", resources=["typo"])
    assert inquiry.resources(grid.core, grid.now).unknown == ("typo",)
    assert kinds(grid, "A") == ["resource_unknown"]


# --- explanations ---


def test_resources_that_are_short_come_first() -> None:
    """Where that is asked for, one that a task waits for is not left out of a list that is too short."""
    grid = Grid().resource("a", 1).resource("z", 0).say("w", "idle").submit("A", resources=["z"])
    [told] = inquiry.resources(grid.core, grid.now, at_most=1, short_first=True).resources
    assert (told.name, told.waiting) == ("z", 1)
    assert inquiry.resources(grid.core, grid.now, at_most=1).resources[0].name == "a"


def test_a_task_whose_type_no_worker_has() -> None:
    """The known types are told, since it may be a typing error."""
    grid = Grid().say("w", "idle").submit("A", task_type="T")
    [reason] = explain(grid, "A").reasons
    assert (reason.kind, reason.worker_types) == ("no_worker", ("t",))


def test_workers_that_are_busy_or_gone() -> None:
    """Busy workers come back by themselves, missing ones do not."""
    grid = Grid().say("w", "working").submit("A")
    assert kinds(grid, "A") == ["workers_busy"]
    assert kinds(grid.wait(100), "A") == ["workers_gone"]


def test_a_worker_that_is_to_be_avoided() -> None:
    """The worker that let a task stall is idle, but not for this task."""
    grid = Grid().say("w", "idle").submit("A", time_limit=5.0).say("w", "working", "A").wait(6)
    grid.say("w", "ready")
    assert kinds(grid, "A") == ["workers_gone"]
    assert "1 to be avoided" in explain(grid, "A").text


def test_paused_manager_and_paused_suite() -> None:
    """Everything that keeps a task is told, the most general first."""
    grid = Grid().set_state(ManagerState.STOPPED).suite("pause_suite", "s").submit("A", suite="s")
    assert kinds(grid, "A") == ["manager_paused", "suite_paused", "no_worker"]
    assert explain(grid, "A").text.startswith("the manager is stopped; its suite s is paused; ")


def test_a_resource_that_is_short() -> None:
    """It is told who holds it, and since when."""
    grid = Grid(resources={"r": Resource("r", limit=1)}).say("w", "idle").say("v", "idle")
    grid.submit("A", resources=["r"]).wait(5).submit("B", resources=["r"])
    [reason] = explain(grid, "B").reasons
    assert (reason.kind, reason.resource, reason.held, reason.limit) == ("resource_short", "r", 1, 1)
    assert [(each.guid, each.since) for each in reason.holders] == [("A", grid.now.wall - 5)]


def test_a_resource_that_is_closed() -> None:
    """A limit of 0 is no shortage: nobody's end helps."""
    grid = Grid(resources={"r": Resource("r", limit=4, available=False)}).say("w", "idle")
    assert kinds(grid.submit("A", resources=["r"]), "A") == ["resource_closed"]


def test_a_resource_that_is_claimed() -> None:
    """What is free, but kept for a task that waits longer, is told as claimed by it."""
    grid = Grid(resources={name: Resource(name, limit=1) for name in "ab"})
    grid.say("v", "idle").submit("H", resources=["b"]).say("v", "working", "H")
    grid.say("w", "idle").submit("A", resources=["a", "b"]).wait(61).submit("B", resources=["a"])
    [reason] = explain(grid, "B").reasons
    assert (reason.kind, reason.resource) == ("claimed", "a")
    assert [(each.guid, each.claims) for each in reason.claims] == [("A", True)]


def test_resources_that_were_not_read() -> None:
    """While Etcd is away tasks with resources wait, and others do not."""
    grid = Grid(grant=False).say("w", "working").say("v", "idle").submit("A", resources=["r"])
    assert kinds(grid, "A") == ["etcd_away"]


def test_place_in_line() -> None:
    """Who goes before is counted by priority and age."""
    grid = Grid().say("w", "working").submit("A").submit("B").submit("C", priority=3.0)
    assert [explain(grid, guid).ahead for guid in "ABC"] == [1, 2, 0]


def test_nothing_but_its_turn() -> None:
    """A task that was left over by one plan, and could go, is told so."""
    grid = Grid().submit("A")
    grid.core.apply(reported("w", "idle"), grid.now)  # the plan of this turn is still to come
    assert kinds(grid, "A") == ["turn"]
    assert explain(grid, "A").text == "nothing keeps it: it goes next"


def test_tasks_that_run() -> None:
    """What is in flight is kept by nothing."""
    grid = Grid().say("w", "idle").submit("A")
    assert explain(grid, "A").reasons == ()
    assert explain(grid, "A").text == "it was sent to worker w, which has not begun it"
    assert explain(grid.say("w", "working"), "A").text == "worker w works on it"


def test_a_task_that_is_unread() -> None:
    """Its row is enough to explain it."""
    grid = unread_grid()
    known = grid.core.backlog.by_guid
    assert grid.leadership is not None
    [row] = finish(grid.leadership.tasks([next(f"T{n}" for n in range(40) if f"T{n}" not in known)]))
    told = explain(grid, row.spec.guid, row)
    assert [reason.kind for reason in told.reasons] == ["no_worker"]
    assert not told.ahead_complete


def test_a_task_that_is_not_there() -> None:
    """There is nothing to explain of a guid that is unknown."""
    grid = Grid()
    assert inquiry.explain(grid.core, "A", grid.now) is None


def test_answers_become_json() -> None:
    """Every answer can be sent as it is."""
    grid = Grid(resources={"r": Resource("r", limit=-1)}).say("w", "idle").submit("A", resources=["r"])
    answers = [
        inquiry.status(grid.core, grid.now),
        inquiry.suites(grid.core),
        inquiry.workers(grid.core, grid.now),
        inquiry.find_tasks(grid.core, inquiry.TaskFilter()),
        inquiry.resources(grid.core, grid.now),
        explain(grid, "A"),
    ]
    for answer in answers:
        assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer
