"""The manager's promise in many histories: nothing is lost or held for ever, no limit is exceeded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.grid import Grid
from tests.simulation.play import Play, describe, keep, kept, play
from tests.simulation.story import Step, draw

SEEDS = 140

BATCH = 20


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_histories(first: int) -> None:
    """Whatever breaks, every task ends or waits, and every reference is given back."""
    bad = [seed for seed in range(first, first + BATCH) if play(seed).violations]
    assert not bad, describe(bad[0])


# Seeds that once ended badly, and why.
ONCE_BAD = {
    444: "a leader that began while the clock was years ahead believed it, and removed history",
    1025: "a heartbeat that crossed *working* gave the task up, and its end counted for the next one",
    1183: "the same, after two takeovers",
    1287: "the same, with a manager killed in between",
    2144: "the same, at a task that another worker had completed",
    2181: "the same as 444",
    5021: "the judge's rule: two outages with a moment between them are not one",
    300351: "a dead task's sender submitted it again, and its copy stayed in the dead queue",
    400749: "a worker's goodbye was lost in the simulation, and it came back: its *ready* ended its task",
    400841: "Etcd came back while a window was being removed, and the rest of it limited nothing",
    401599: "the judge's rule: a manager that froze could not hear that its session had broken",
    600454: "two steps of one second had one guid",
    602774: "a dead task was settled while its copy was about to be sent, and the copy stayed",
    603899: "the judge's rule: what is held when Etcd comes back restored was not taken just then",
    2211: "a manager that was cut off went on with its lease when its session had been ended",
}

# The same, from a time when stories had fewer kinds of faults.
ONCE_BAD_PLAIN = {
    38: "a claim and the turn of a suite waited for each other",
    816: "a message that was never sent was taken for done",
    1186: "a message that was never sent was taken for done",
}


@pytest.mark.parametrize("seed", [*ONCE_BAD, *kept()])
def test_what_once_went_wrong(seed: int) -> None:
    """A history that once ended badly stays a test."""
    assert not play(seed).violations, describe(seed)


@pytest.mark.parametrize("seed", ONCE_BAD_PLAIN)
def test_what_once_went_wrong_in_plain_stories(seed: int) -> None:
    """The same for the older stories."""
    assert play(seed, draw(seed, more=0)).violations == ()


def test_same_seed_same_history() -> None:
    """The seed decides everything, so a failure can be reproduced."""
    assert play(3) == play(3)


def test_blocked_broker_counts_against_nobody() -> None:
    """No time limit ends while nobody can be heard: tasks finished meanwhile are reported in the end."""
    tasks = [Step(1.0, "submit", (f"t{number}", "x", 1.0, (), None, 20.0)) for number in range(3)]
    story = [*tasks, Step(5.0, "broker_blocked", (200.0,))]
    played = play(1, story, managers=1, duration=250.0, mending=300.0)
    assert not played.violations
    assert len([line for line in played.log if "TASK_COMPLETED" in line]) == len(tasks)
    assert [line for line in played.log if "WORKER_STALLED" in line or "WORKER_MISSING" in line] == []


@pytest.mark.parametrize("number", [0, 4], ids=["ruby", "readme"])
def test_killed_worker(number: int) -> None:
    """Its task continues within half a minute if another worker is idle."""
    begun = [Step(1.0, "submit", (f"t{each}", "x", 1.0, (), None, 48.0)) for each in range(3)]
    more = [Step(5.0, "new_free_worker", ("x",)), Step(20.0, "kill_worker", (number, 1000.0))]
    played = play(1, [*begun, *more], managers=1, duration=90.0, mending=300.0)
    assert not played.violations
    [deserted] = [line for line in played.log if "QUEUE_DESERTED" in line]
    assert 20.0 < float(deserted.split()[0]) < 50.0


@pytest.mark.parametrize("number", [0, 4], ids=["ruby", "readme"])
@pytest.mark.parametrize("what", ["worker_reconnects", "worker_fetches"])
def test_living_worker_that_does_not_consume(number: int, what: str) -> None:
    """A worker that reconnects, or that takes one message at a time, keeps its task."""
    tasks = [Step(1.0, "submit", (f"t{each}", "x", 1.0, (), None, 50.0)) for each in range(3)]
    odd = [Step(9.0, what, (number, 12.0)) if what == "worker_reconnects" else Step(0.5, what, (number,))]
    free = [Step(5.0, "new_free_worker", ("x",))]
    played = play(1, [*odd, *tasks, *free], managers=1, duration=90.0, mending=200.0)
    assert not played.violations
    assert [line for line in played.log if "QUEUE_DESERTED" in line or "TASK_RELEASED" in line] == []


# --- every single step ---

SHORT = [
    Step(0.5, "worker_gives_up", (0,)),
    Step(0.5, "submit", ("t0", "x", 1.0, ("db", "licence"), None, 1.0)),
    Step(0.5, "submit", ("t1", "y", 1.0, (), "S1", 0.1)),
    Step(0.6, "submit", ("t2", "x", 5.0, ("licence",), "S1", 1.0)),
    Step(0.7, "send_garbage", ("{",)),
    Step(1.0, "worker_leaves", (5, 3.0)),
    Step(1.0, "foreign_take", ("db", 1.0)),
]
"""A short story with a bit of everything."""


def brief(*more: Step, seed: int = 1, managers: int = 1) -> Play:
    """Play the short story with additional steps. The seed decides which of two managers they affect."""
    return play(seed, [*SHORT, *more], managers=managers, duration=10.0, mending=150.0)


STEPS = play(1, SHORT, managers=1, duration=10.0, mending=0.0).steps
"""How many steps one manager takes in it."""


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("managers", [1, 2])
def test_killed_at_every_step(part: int, managers: int) -> None:
    """Whatever a manager has last sent or received, the next one cleans up after it."""
    for steps in range(1 + part, STEPS, 4):
        kill = Step(0.0, "kill_at_step", (steps, 1.0))
        for seed in (steps, steps + 1000)[:managers]:
            assert brief(kill, seed=seed, managers=managers).violations == (), (steps, seed)


QUIET = [
    Step(0.5, "submit", (f"t{number}", "xy"[number % 2], 1.0, names, None, 1.0))
    for number, names in enumerate(((), ("db",), ("db", "licence"), ()))
]
"""Some tasks, and workers that take them at once."""


@pytest.mark.parametrize("part", range(2))
def test_a_restart_amid_a_dispatch(part: int) -> None:
    """A task that RabbitMQ has goes to nobody else, any other is sent again; both count once."""
    last = play(1, QUIET, managers=1, duration=5.0, mending=0.0).steps
    for steps in range(1 + part, last, 2):
        grid = Grid(1, managers=1)
        story = [*QUIET, Step(0.0, "kill_at_step", (steps, 1.0))]
        assert grid.tell(story, duration=10.0, mending=150.0) == [], steps
        runs = Counter(deed.guid for deed in grid.observer.starts)
        assert runs == {f"t{number}": 1 for number in range(len(QUIET))}, steps
        assert {task.row.attempts for task in grid.database.rows.history.values()} == {1}, steps
        grid.end()


@pytest.mark.parametrize("fault", ["freeze_at_step", "cut_off_at_step"])
@pytest.mark.parametrize("part", range(4))
def test_out_of_the_world_at_every_step(part: int, fault: str) -> None:
    """At whichever step a manager freezes or loses its network, it does not harm the next one."""
    for steps in range(1 + part, STEPS, 4):
        for seed in (steps, steps + 1000):
            out = Step(0.0, fault, (steps, 14.0))
            assert brief(out, seed=seed, managers=2).violations == (), (steps, seed)


@pytest.mark.parametrize("fate", ["UNHEARD", "UNANSWERED"])
@pytest.mark.parametrize("part", range(4))
def test_every_request_unanswered(part: int, fate: str) -> None:
    """If a request or its answer is lost, the manager finds out what happened instead of guessing."""
    for steps in range(1 + part, STEPS, 4):
        assert brief(Step(0.0, "disturb_at_step", (steps, fate))).violations == (), steps


def test_bad_seeds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each seed is added once, below what the file contains already."""
    monkeypatch.setattr("tests.simulation.play.KEPT", tmp_path / "kept.txt")
    (tmp_path / "kept.txt").write_text("# why\n7\n")
    keep([9, 7])
    keep([9])
    assert kept() == [7, 9]
    assert (tmp_path / "kept.txt").read_text().startswith("# why\n")
