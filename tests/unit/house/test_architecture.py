"""What the page of the architecture draws, lists and plays by example is what the code does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pytest
from msgspec.structs import replace

from tefmanager.core.model import events
from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.core.model.entities import Phase
from tefmanager.core.model.limits import Limits, Memory
from tefmanager.core.model.values import Doubt, TaskState, WorkerStatus
from tefmanager.core.waiting.wait_lists import WaitList
from tefmanager.protocol.verdicts import Result, Verdict
from tests.fakes.store import FakeDatabase
from tests.paths import ROOT
from tests.unit.grid import Grid
from tests.unit.house.rooms import CORE_FLOORS, FLOORS, package
from tests.unit.house.test_docs import (
    BEFORE,
    EVENTS,
    MORE_EVENTS,
    STATES,
    cases,
    dispatched,
    doubtful,
    drawn,
    missing_at_work,
    state_of,
    table,
    unconfirmed,
    words,
    working,
)

PAGE = (ROOT / "docs/architecture.md").read_text()


def part(title: str) -> str:
    """Return a section of the page, of the second level or the third."""
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[2]


def blocks(title: str) -> list[str]:
    """Return the drawings of a section."""
    return re.findall(r"^```\n(.*?)^```$", part(title), re.MULTILINE | re.DOTALL)


def boxes(title: str) -> set[str]:
    """Return what stands in brackets in the drawings of a section."""
    return {box for block in blocks(title) for box in re.findall(r"\[(\w+)\]", block)}


# --- rooms and places ---


@pytest.mark.parametrize(("number", "floors"), [(0, FLOORS), (1, CORE_FLOORS)], ids=["package", "core"])
def test_floors(number: int, floors: tuple[tuple[str, ...], ...]) -> None:
    """The drawings have each room on its floor."""
    lines = re.findall(r"^(\d)  ((?:\w+  ?)+) ", blocks("Rooms and floors")[number], re.MULTILINE)
    assert {int(floor): tuple(names.split()) for floor, names in lines} == {
        floor: tuple(sorted(rooms)) for floor, rooms in enumerate(floors, start=1)
    }


def places(cell: str) -> Iterator[str]:
    """Go through the places that a cell names; one without a folder is in that of the one before."""
    folder = ""
    for place in words(cell):
        if re.fullmatch(r"[\w./-]*(\.py|/)|tests/\w+", place):
            folder = place.rpartition("/")[0] if "/" in place else folder
            yield place if "/" in place else f"{folder}/{place}"


def test_places_are_there() -> None:
    """The tables of places name what is there, and every module of the rooms told in parts."""
    whole = [place for row in table(PAGE, "place", "what it holds") for place in places(row[0])]
    core = [
        f"tefmanager/{place}"
        for row in table(PAGE, "module", "what it answers")
        for place in places(row[0])
    ]
    assert [place for place in [*whole, *core] if not (ROOT / place).exists()] == []
    told = {*whole, *core}
    rooms = {"core", "engine", "inquiry", "interfaces", "service", "support"}
    modules = {module.path.relative_to(ROOT).as_posix() for module in package()}
    parts = {path for path in modules if path.split("/")[1] in rooms and not path.endswith("__init__.py")}
    assert parts - told == set()


def test_paths_in_running_text() -> None:
    """A path that is named anywhere on the page is one of the package or of the checkout."""
    paths = re.findall(r"`((?:\w+/)+\w+\.(?:py|md|xml))`", PAGE)
    assert [
        path for path in paths if not ((ROOT / path).exists() or (ROOT / "tefmanager" / path).exists())
    ] == []


def glossary() -> list[tuple[str, str, str]]:
    """Return (word, file, name in it) of each place in the glossary."""
    found = []
    for word, _, where in table(part("Glossary"), "word", "meaning", "where"):
        for path, _, name in re.findall(r"`(\S+\.py)`( `(\w+)`)?", where):
            found.append((word, path, name))
    return found


def test_glossary_is_sorted_and_complete() -> None:
    """Each word is there once, in the order of the alphabet, with a place."""
    listed = [row[0] for row in table(part("Glossary"), "word", "meaning", "where")]
    assert listed == sorted(set(listed))
    assert {word for word, _, _ in glossary()} == set(listed)


def test_glossary_leads_to_code() -> None:
    """The place of a word has the class, method or attribute that is named."""
    texts = {path: (ROOT / "tefmanager" / path).read_text() for _, path, _ in glossary()}
    assert [each for each in glossary() if not re.search(rf"\b{each[2]}\b", texts[each[1]])] == []


# --- states of a task ---


def path_of(grid: Grid, guid: str = "T") -> list[str]:
    """Return the states that a task's row had, one after the other; a new row first waits."""
    ids = {key for key, name in grid.guids.items() if name == guid}
    path = ["new", "waiting"] if ids else ["new"]
    for changes in grid.changes:
        rows = [row for row, _ in changes.accepted] + list(changes.tasks.values())
        path += [row.state.value for row in rows if row.spec.id in ids]
        path += [end.outcome.value for key, end in changes.finished.items() if key in ids]
    return path


def arrows(grids: Iterable[Grid]) -> set[tuple[str, str]]:
    """Return which state followed on which."""
    return {(one, other) for grid in grids for one, other in pairwise(path_of(grid)) if one != other}


def last_try() -> Grid:
    """A task has one attempt, and its worker was sent it."""
    return Grid(Limits(max_attempts=1)).say("w", "idle").submit("T", time_limit=50.0)


def tasks_lives() -> list[Grid]:
    """Return grids in which a task took each way that the drawing has."""
    return [
        Grid().submit("T", suite="S").suite("stop_suite", "S"),
        working().say("w", "task_complete"),
        dispatched().say("w", "task_complete"),
        Grid().say("w", "idle").submit("T").wait(31),
        missing_at_work().say("w", "working"),
        missing_at_work().say("w", "task_complete", "T"),
        working().say("w", "offline", redelivered=True).say("w", "ready"),
        last_try().wait(31),
        last_try().say("w", "working").wait(51),
        Grid().say("w", "idle").submit("T", time_limit=50.0).say("w", "working").wait(51),
    ]


def drawn_of_tasks() -> set[tuple[str, str]]:
    """Return the arrows in the table of a task's states."""
    return {
        (words(row[0])[0] if words(row[0]) else row[0], words(row[1])[0])
        for row in table(part("Task"), "from", "to", "when")
    }


def test_drawing_of_a_task_has_every_state() -> None:
    """States and outcomes are those of the code."""
    assert boxes("Task") == {*TaskState, *Outcome}


def test_every_arrow_of_a_task_is_taken() -> None:
    """What the table tells of a task happens in the core, and nothing else does in these lives."""
    assert arrows(tasks_lives()) == drawn_of_tasks()


def test_a_task_takes_no_other_arrow() -> None:
    """Whatever a worker in any state does, its task goes by the table."""
    grids = [(BEFORE.get(event, STATES[state])(), event) for state, event in cases()]
    for grid, event in grids:
        {**EVENTS, **MORE_EVENTS}[event](grid)
    assert arrows(grid for grid, _ in grids) <= drawn_of_tasks()


# --- ends of attempts ---


def silent_since_dispatch() -> Grid:
    """It went silent long before it was sent T."""
    return Grid().say("w", "idle").wait(70).submit("T").wait(20.5)


def returned() -> Grid:
    """The broker returned its dispatch."""
    grid = unconfirmed()
    return grid.turn(events.DispatchFailed(grid.published[0].attempt, "returned"))


def superseded(*said: str) -> Grid:
    """It was sent T once more, or works on it, when the one that had it before completes it."""
    grid = dispatched().wait(31)
    for word in said:
        grid.say("v", word)
    return grid.say("w", "task_complete")


def blaming(grid: Grid) -> Grid:
    """Its worker says that its surroundings are to blame."""
    return grid.say("w", "task_complete", verdict=Verdict(Result.ERROR, retry=True))


ENDS: dict[tuple[AttemptEnd, Phase], Callable[[], Grid]] = {
    (AttemptEnd.COMPLETED, Phase.DISPATCHED): lambda: dispatched().say("w", "task_complete"),
    (AttemptEnd.COMPLETED, Phase.WORKING): lambda: working().say("w", "task_complete"),
    (AttemptEnd.UNDELIVERED, Phase.DISPATCHED): returned,
    (AttemptEnd.UNCONFIRMED, Phase.DISPATCHED): lambda: unconfirmed().wait(31),
    (AttemptEnd.DISPATCH_TIMEOUT, Phase.DISPATCHED): lambda: dispatched().wait(31),
    (AttemptEnd.GIVEN_UP, Phase.WORKING): lambda: working().say("w", "idle").wait(2.1),
    (AttemptEnd.OFFLINE, Phase.DISPATCHED): lambda: dispatched().say("w", "offline"),
    (AttemptEnd.OFFLINE, Phase.WORKING): lambda: working().say("w", "offline"),
    (AttemptEnd.MISSING, Phase.DISPATCHED): silent_since_dispatch,
    (AttemptEnd.MISSING, Phase.WORKING): missing_at_work,
    (AttemptEnd.STALLED, Phase.WORKING): lambda: working().wait(51),
    (AttemptEnd.SUPERSEDED, Phase.DISPATCHED): superseded,
    (AttemptEnd.SUPERSEDED, Phase.WORKING): lambda: superseded("working"),
    (AttemptEnd.ENVIRONMENT, Phase.DISPATCHED): lambda: blaming(dispatched()),
    (AttemptEnd.ENVIRONMENT, Phase.WORKING): lambda: blaming(working()),
}
"""How an attempt comes to each of its ends, from each phase."""


def told_of_ends() -> dict[tuple[str, str], tuple[str, str]]:
    """Return what the table tells, by end and phase: may the worker still have it, does it count."""
    rows = table(part("Attempt"), "end", "from", "what happened", "may still have it", "counts")
    return {(words(row[0])[0], phase): (row[3], row[4]) for row in rows for phase in words(row[1])}


def test_drawing_of_an_attempt_has_every_phase_and_end() -> None:
    """Phases are those of the code; each end is told for each phase from which it is tried here."""
    assert boxes("Attempt") == set(Phase)
    assert set(told_of_ends()) == set(ENDS)
    assert {end for end, _ in ENDS} == set(AttemptEnd)


def test_ends_of_an_attempt() -> None:
    """The table says whether its worker may still have the task, and whether the attempt counts."""
    assert {key: found_at(ENDS[key](), *key) for key in ENDS} == told_of_ends()


def found_at(grid: Grid, end: AttemptEnd, phase: Phase) -> tuple[str, str]:
    """Return the same of an attempt that has ended so."""
    row = next(row for changes in grid.changes for row in changes.attempts if row.end is end)
    assert (row.started is not None) == (phase is Phase.WORKING)
    task = grid.core.backlog.by_guid.get("T")
    begun = sum(guid == "T" for _, guid in grid.sent)
    counts = "–" if task is None else "yes" if task.attempts == begun else "no"
    return ("yes" if row.unresolved else "no", counts)


# --- states of a worker ---


def test_drawing_of_a_worker() -> None:
    """It has the states and arrows of the drawing in the page of the protocol."""
    found = {
        (start, end)
        for start, ends in re.findall(
            r"^ \[?\(?(\w+)[\])] +--> ([\w, ]+)$", blocks("Worker")[1], re.MULTILINE
        )
        for end in ends.split(", ")
    }
    assert found == {(start.replace("[*]", "new"), end) for (start, _), end in drawn().items()}
    assert boxes("Worker") == {*WorkerStatus, "busy", "doubtful"}


# --- who is next ---

WORKERS = {"t1": "test", "t2": "test", "b1": "build"}


def next_of(grid: Grid, kind: str) -> str:
    """Return the best task of a type at db, with its rank among all types, as the page writes it."""
    queue = grid.core.backlog.type_queues.get(kind)
    wait_list: WaitList | None = None if queue is None else queue._short.get("db")
    if wait_list is None or (rank := wait_list.across()) is None:
        return "–"
    task = next(task for task in grid.core.backlog.tasks() if task.spec.id == rank[3])
    return f"`{task.spec.guid}` ({', '.join(f'{number:g}' for number in rank)})"


def test_example_of_who_is_next() -> None:
    """The table of the example is what the core does, with its ranks."""
    grid = Grid().resource("db", 1).say("t1", "idle", worker_type="test")
    grid.submit("x", task_type="test", suite="red", resources=["db"]).say("t1", "working")
    for row in table(part("An example"), "task", "type", "suite", "priority", "resources"):
        guid, kind, suite = (words(cell)[0] for cell in row[:3])
        grid.submit(guid, task_type=kind, suite=suite, priority=float(row[3]), resources=words(row[4]))
    grid.say("b1", "idle", worker_type="build").say("t2", "idle", worker_type="test")
    assert grid.sent[1:] == [("t2", "e")]
    end(grid, "t2")
    for why, test, build, goes in table(
        part("An example"), "`db` becomes free because", "best of `test`", "best of `build`", "next"
    ):
        assert (next_of(grid, "test"), next_of(grid, "build")) == (test, build)
        worker = next(name for name, guid in reversed(grid.sent) if guid == words(why)[0])
        end(grid, worker)
        assert list(reversed(grid.sent[-1])) == words(goes)


def end(grid: Grid, worker: str) -> None:
    """Let a worker complete what it has, and be free again."""
    for word in ("working", "task_complete", "idle"):
        grid.say(worker, word, worker_type=WORKERS.get(worker, "t"))


# --- the hard places ---


def test_example_of_paging() -> None:
    """One task stands for a demand that is paged out; suites take turns as with all in memory."""
    grid = Grid(Limits(memory=Memory(tasks=4, first=2))).on(FakeDatabase()).resource("p", 0)
    guids = [f"g{number}" for number in range(1, 10)]
    for number, guid in enumerate(guids):
        grid.submit(guid, resources=["p"], suite="BA"[number % 2])
        assert len(grid.waiting()) == (number + 1 if number < 4 else 1)
    assert (grid.core.backlog.waiting, grid.core.backlog.unread) == (9, 8)
    assert grid.say("w", "idle").logged("RESOURCE_WAIT") == ["RESOURCE_WAIT|t|g1|p"]
    assert grid.resource("p", 1).guids_sent == ["g1"]
    assert sorted(grid.waiting()) == ["g2", "g3", "g4"]
    for _ in range(8):
        end(grid, "w")
    assert grid.guids_sent == guids


@pytest.mark.parametrize(("word", "outcome"), [("working", None), (None, Outcome.COMPLETED)])
def test_example_of_doubt(word: str | None, outcome: Outcome | None) -> None:
    """A redelivered end is believed when nothing follows, and is not when *working* does."""
    grid = Grid().on(FakeDatabase()).say("w", "idle").submit("T").say("w", "working").restart()
    grid.say("w", "task_complete", redelivered=True)
    assert [row.doubt for changes in grid.changes for row in changes.tasks.values()][-1] is Doubt.DONE
    grid.wait(1)
    if word is not None:
        grid.say("w", word)
    assert grid.wait(2).outcomes.get("T") is outcome


def test_every_doubt_is_told() -> None:
    """The table of doubts has each of the code's."""
    rows = table(part("Doubt"), "doubt", "it means", "it ends")
    assert [words(row[0])[0] for row in rows] == [each.value for each in Doubt]


def test_a_worker_in_doubt_gets_only_what_it_may_have() -> None:
    """What the page says of a doubtful worker: another task is for others."""
    grid = doubtful()
    assert state_of(grid) == "doubtful"
    assert "U" not in grid.submit("U").guids_sent


def test_example_of_patience() -> None:
    """The table of the example is what the core does, second by second."""
    grid = Grid().resource("a", 1).resource("b", 1)
    for worker in ("w0", "w1", "w2", "w3"):
        grid.say(worker, "idle")
    grid.submit("x", resources=["a"]).submit("y", resources=["b"]).submit("wide", resources=["a", "b"])
    grid.submit("b1", resources=["b"]).submit("b2", resources=["b"])
    for second, what, goes in table(part("Patience"), "second", "what happens", "next"):
        grid.wait(int(second) - grid.time)
        before = grid.guids_sent
        done = re.match(r"`(\w+)` is done", what)
        if done:
            end(grid, next(name for name, guid in grid.sent if guid == done[1]))
        claims = [
            wait.task.claim for wait in grid.core.pool.waits.values() if wait.task.spec.guid == "wide"
        ]
        assert claims in ([], [1 if int(second) >= 10 else None])
        assert grid.guids_sent[len(before) :] == words(goes)


def test_example_of_time() -> None:
    """A limit is judged by what was heard, and not by what the clock shows."""
    grid = Grid().say("w", "idle")
    grid.time = 100.0
    grid.core.advance(replace(grid.now, monotonic=1058.0))
    assert grid.status("w") == "idle"
    grid.say("w", "idle").turn()
    assert grid.status("w") == "idle"
    silent = Grid().say("w", "idle")
    silent.time = 100.0
    assert silent.turn().status("w") == "missing"
