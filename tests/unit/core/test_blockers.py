"""Who submits a task that cannot run as things are is told so."""

from __future__ import annotations

import pytest

from tefmanager.core.blockers import REMEMBERED
from tefmanager.core.model import events
from tefmanager.core.model.effects import Reply, ReplyTo
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource, Window
from tefmanager.inquiry.resource_answers import resources
from tests.unit.grid import Grid, submitted

TO = ReplyTo(b"answers", b"1")


def warnings(grid: Grid, guid: str, **fields: object) -> tuple[str, ...]:
    """Submit a task and return what the reply warns of."""
    event = submitted(guid, **fields)
    grid.turn(type(event)(event.message, event.body, reply=TO))
    reply = [effect for effect in grid.effects if isinstance(effect, Reply)][-1]
    assert reply.response is True
    return reply.warnings


def test_a_type_that_no_worker_has() -> None:
    """The task is taken all the same, and goes once such a worker comes."""
    grid = Grid().say("w", "idle")
    assert warnings(grid, "A", task_type="T") == ("no worker of type T is known",)
    assert grid.logged("TASK_CANNOT_RUN") == ["TASK_CANNOT_RUN|T|A|no worker of type T is known"]
    assert grid.say("v", "idle", worker_type="T").guids_sent == ["A"]


def test_a_worker_that_is_busy_is_no_blocker() -> None:
    """Neither is one that is missing, since it may come back."""
    grid = Grid().say("w", "working")
    assert warnings(grid, "A") == ()
    assert warnings(grid.wait(100), "B") == ()
    assert grid.logged("TASK_CANNOT_RUN") == []


def test_a_resource_that_gives_nothing() -> None:
    """A limit of 0, a resource that is closed and a window that closes it all are blockers."""
    shut = Window("night", 0, 1440, available=False)
    entries = {
        "zero": Resource("zero", limit=0),
        "closed": Resource("closed", limit=3, available=False),
        "window": Resource("window", limit=3, windows=(shut,)),
        "held": Resource("held", held=3, limit=3),
        "free": Resource("free", limit=-1),
    }
    found = warnings(Grid(resources=entries).say("w", "idle"), "A", resources=[*entries, "unknown"])
    shut_now = ("closed", "window", "zero")
    assert found == tuple(f"resource {name} has the limit 0 now, 1 is needed" for name in shut_now)


def test_a_resource_that_others_are_writing() -> None:
    """What keeps it closed for less than a second is no blocker."""
    entry = Resource("r", limit=3, earlier=(Resource("r", limit=3, available=False),))
    assert warnings(Grid(resources={"r": entry}).say("w", "idle"), "A", resources=["r"]) == ()


def test_a_resource_without_an_entry() -> None:
    """It is a blocker only where such resources hold tasks back."""
    grid = Grid(Limits(hold_unknown=True)).say("w", "idle")
    assert warnings(grid, "A", resources=["typo"]) == ("resource typo has no entry in Etcd",)
    assert warnings(Grid().say("w", "idle"), "A", resources=["typo"]) == ()


def test_a_name_that_resembles_an_existing_one() -> None:
    """It limits nothing, and everybody is told, in the log once for each name."""
    grid = Grid(resources={"café": Resource("café", limit=1)}).say("w", "idle")
    for odd in ("Café", "cafe\u0301", "café\r", " café", "ca\u200bfé", "\uff43afé", "caf\u3164é\ufe0f"):
        text = (
            f"resource {odd} has no entry in Etcd and limits nothing; is 'café' meant instead of {odd!r}?"
        )
        assert warnings(grid, f"1{odd}", resources=[odd]) == (text,)
        assert warnings(grid, f"2{odd}", resources=[odd]) == (text,)
    assert len(grid.logged("RESOURCE_UNLIMITED")) == 7
    assert grid.logged("TASK_CANNOT_RUN") == []
    assert warnings(grid, "A", resources=["cafe", "café"]) == ()
    listed = resources(grid.core, grid.now)
    assert listed.resembling["Café"] == "café" and "Café" in listed.unknown
    grid.turn(events.ResourcesSeen({"Café": Resource("Café", limit=1)}))
    assert warnings(grid, "B", resources=["Café"]) == ()
    grid.turn(events.ResourcesSeen({"Café": None, "café": None}))
    assert warnings(grid, "C", resources=["Café"]) == ()
    assert resources(grid.core, grid.now).resembling == {}


@pytest.mark.parametrize("odd", ["db//main", "/db/main", "db/main/", "./db/main", "DB/./main"])
def test_slashes_that_lead_nowhere(odd: str) -> None:
    """To Etcd's v2 API they are not there; in v3 they make another name."""
    grid = Grid(resources={"db/main": Resource("db/main", limit=1)}).say("w", "idle")
    [text] = warnings(grid, "1", resources=[odd])
    assert "is 'db/main' meant" in text
    assert warnings(grid, "2", resources=["db", "main", "dbmain"]) == ()


def test_names_that_resemble_are_bounded() -> None:
    """Memory does not grow with what clients make up."""
    grid = Grid(resources={"r": Resource("r", limit=1)}).say("w", "idle")
    found = grid.core.intake.blockers.resembling
    for number in range(REMEMBERED + 10):
        found.look("R" + " " * number)
    assert len(found.found) == REMEMBERED


def test_resources_that_were_not_read() -> None:
    """While Etcd is away nobody knows their limits."""
    assert warnings(Grid(grant=False).say("w", "idle"), "A", resources=["r"]) == ()


def test_the_log_tells_of_a_blocker_once() -> None:
    """It tells of it again where it was gone in between; senders are told each time."""
    grid = Grid()
    assert warnings(grid, "A") == warnings(grid, "B") == ("no worker of type t is known",)
    assert len(grid.logged("TASK_CANNOT_RUN")) == 1
    assert warnings(grid.say("w", "idle"), "C") == ()
    assert warnings(grid.say("w", "offline"), "D") != ()
    assert len(grid.logged("TASK_CANNOT_RUN")) == 2


def test_blockers_are_forgotten() -> None:
    """Memory does not grow with every type that somebody misspells."""
    grid = Grid()
    for number in range(REMEMBERED + 2):
        grid.submit(str(number), task_type=f"T{number}")
    assert warnings(grid, "new", task_type=f"T{number}") != ()
    assert len(grid.logged("TASK_CANNOT_RUN")) == REMEMBERED + 2
    assert warnings(grid, "old", task_type="T0") != ()
    assert len(grid.logged("TASK_CANNOT_RUN")) == REMEMBERED + 3


def test_it_is_logged_after_the_task_was_accepted() -> None:
    """Who reads the log knows the task when the warning comes."""
    lines = Grid().submit("A").lines
    assert [line.partition("|")[0] for line in lines[-2:]] == ["TASK_ACCEPTED", "TASK_CANNOT_RUN"]
