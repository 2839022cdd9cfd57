"""What is published of what happens: the docs, the keys, and when a suite is finished."""

from __future__ import annotations

import json
import re

from tefmanager.core.books.suites import Suites
from tefmanager.core.model import events
from tefmanager.core.model.effects import Log
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.limits import Limits
from tefmanager.core.running.announcements import announcement
from tefmanager.protocol.catalogue import CATALOGUE
from tefmanager.protocol.messages import SuiteCommand
from tefmanager.protocol.verdicts import Result, Verdict
from tests.fakes.store import FakeDatabase
from tests.unit.grid import Grid, finish, submitted
from tests.unit.house.test_docs import section, table, words

TIME = 1795479544.163
OF_TASKS = {"task_type", "guid"}


def announced(grid: Grid) -> list[dict[str, object]]:
    """Return all that would be published."""
    logs = [effect for effect in grid.effects if isinstance(effect, Log) and effect.line.type.topic]
    return [json.loads(announcement(log, TIME)) for log in logs]


def topics(grid: Grid) -> list[object]:
    """Return the keys of all that would be published."""
    return [message["event"] for message in announced(grid)]


def finished(grid: Grid) -> list[dict[str, object]]:
    """Return the events that tell of finished suites."""
    return [message for message in announced(grid) if message["event"] == "suite.finished"]


# --- what the page says ---


def test_the_page_has_every_event() -> None:
    """The table has the keys and fields of the catalogue, in its order, and the suite of each task."""
    rows = table(section("Events"), "routing key", "keys beside `event` and `time`", "when")
    expected = [
        (event.topic, [*event.fields, *event.told, *(["suite"] if "guid" in event.fields else [])])
        for event in CATALOGUE
        if event.topic
    ]
    assert [(words(row[0])[0], list(dict.fromkeys(words(row[1])))) for row in rows] == [
        (topic, list(dict.fromkeys(fields))) for topic, fields in expected
    ]


def test_the_example_is_what_comes() -> None:
    """The messages shown on the page are those of a worker that does one task, key by key in order."""
    fenced = re.search(r"^```\n(\{\"event.*?)^```$", section("Events"), re.MULTILINE | re.DOTALL)
    assert fenced
    shown = [json.loads(line) for line in fenced[1].splitlines()]
    grid = Grid().say("worker_foo", "ready", worker_type="echo")
    grid.submit("task_1", task_type="echo", priority=5.0, suite="suite_7")
    grid.say("worker_foo", "working", "task_1", worker_type="echo").wait(0.25)
    grid.say("worker_foo", "ready", worker_type="echo", verdict=Verdict(Result.PASSED))
    assert announced(grid) == [{**each, "time": TIME} for each in shown]
    assert [list(each) for each in announced(grid)] == [list(each) for each in shown]


def test_every_event_of_a_task_names_its_suite() -> None:
    """Whoever follows a suite need not know its guids; a task without one has null."""
    limits = Limits(max_attempts=1)
    for suite in ("s", None):
        grid = Grid(limits).say("w", "ready").submit("T", suite=suite, time_limit=50.0)
        grid.say("w", "working", "T").wait(51).submit("U", suite=suite).suite("stop_suite", "s")
        about = [message for message in announced(grid) if OF_TASKS & set(message)]
        assert {"task.released", "worker.stalled", "task.dead"} <= {message["event"] for message in about}
        assert [message["suite"] for message in about] == [suite] * len(about)


def test_one_line_is_one_event() -> None:
    """A guid that would be escaped in the log is published as it is."""
    grid = Grid().submit("a|b\nc")
    assert [message["guid"] for message in announced(grid)] == ["a|b\nc"]


# --- suites ---


def test_a_suite_is_finished_with_its_last_task() -> None:
    """It is told once, with the counts of each outcome, however the tasks ended."""
    grid = Grid(Limits(max_attempts=1)).say("w", "ready")
    for guid in ("done", "dead", "stopped"):
        grid.submit(guid, suite="s")
    grid.say("w", "working", "done").say("w", "ready")
    grid.say("w", "working", "dead").wait(601)
    assert finished(grid) == []
    grid.suite("stop_suite", "s")
    counts = {"suite": "s", "completed": 1, "stopped": 1, "dead": 1}
    results = {"passed": 0, "failed": 0, "error": 0, "unknown": 1}
    assert finished(grid) == [{"event": "suite.finished", "time": TIME, **counts, **results}]


def test_a_suite_is_told_by_its_results() -> None:
    """Completed tasks are counted by what their workers said, over leaderships and in history."""
    grid = Grid().on(FakeDatabase()).say("w", "ready")
    said = ("passed", "failed", "error", "passed", "unknown")
    for guid in range(len(said)):
        grid.submit(f"{guid}", suite="s")
    for guid, result in enumerate(said):
        grid.say("w", "working", f"{guid}").say("w", "ready", verdict=Verdict(Result(result)))
        if guid == 2:
            grid.restart()
            grid.say("w", "ready")
    [told] = finished(grid)
    assert {result: told[result] for result in ("completed", *said)} == {
        "completed": 5,
        "passed": 2,
        "failed": 1,
        "error": 1,
        "unknown": 1,
    }


def test_a_suite_that_goes_on_is_finished_again() -> None:
    """Tasks that come when all others have ended are counted with them."""
    grid = Grid().on(FakeDatabase()).say("w", "ready")
    for guid in ("a", "b"):
        grid.submit(guid, suite="s").say("w", "working", guid).say("w", "ready")
    assert [message["completed"] for message in finished(grid)] == [1, 2]


def test_a_suite_outlasts_a_leadership() -> None:
    """Tasks that ended before it are counted, and those that waited then are waited for, read or not."""
    for memory in (10, 1):
        limits = Limits()
        object.__setattr__(limits.memory, "tasks", memory)
        grid = Grid(limits).on(FakeDatabase())
        for number in range(4):
            grid.submit(f"t{number}", suite="s")
        grid.say("w", "ready").say("w", "working").say("w", "ready").restart().say("w", "ready")
        for _ in range(3):
            grid.say("w", "working").say("w", "ready")
        assert [message["completed"] for message in finished(grid)] == [4]


def test_a_suite_that_was_over_before_the_leadership_is_counted_on() -> None:
    """What history has of it counts though no task of it was there when the leadership began."""
    grid = Grid().on(FakeDatabase()).submit("a", suite="s").suite("stop_suite", "s").restart()
    grid.submit("b", suite="s").suite("stop_suite", "s")
    assert [message["stopped"] for message in finished(grid)] == [1, 2]


def test_a_suite_outlasts_its_history() -> None:
    """Where history is kept for a shorter time than a suite lasts, what memory has counted is told."""
    grid = Grid().on(FakeDatabase()).say("w", "ready").submit("a", suite="s").submit("b", suite="s")
    grid.say("w", "working", "a").say("w", "ready")
    assert grid.leadership is not None
    assert finish(grid.leadership.forget(grid.now.wall + 1, 10)) == 1
    grid.say("w", "working", "b").say("w", "ready")
    assert [message["completed"] for message in finished(grid)] == [2]


def test_a_suite_whose_next_task_comes_in_the_same_turn_is_not_over() -> None:
    """What counts is how things stand when the turn ends."""
    grid = Grid().submit("a", suite="s")
    stop = events.Commanded(SuiteCommand("stop_suite", "s"))
    grid.turn(stop, submitted("b", suite="s"))
    assert finished(grid) == []
    grid.turn(stop)
    assert [message["stopped"] for message in finished(grid)] == [2]


def test_tasks_without_a_suite_finish_none() -> None:
    """There is nothing to tell of them."""
    suites = Suites()
    suites.came(None)
    suites.ended(None, Outcome.COMPLETED)
    assert suites.over == ()
    assert list(suites.conclude({})) == []
