"""The stories contain what they promise: each kind of trouble is drawn, and can happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from inspect import signature

import pytest

from tefmanager.core.model.values import Stretch, TaskRow
from tests.fakes.store import FakeLeadership
from tests.simulation import knobs, story
from tests.simulation.grid import LITTLE, Grid
from tests.simulation.play import play
from tests.simulation.story import Step, crowded, draw
from tests.simulation.voices import Voice

SEEDS = range(400)

OFTEN = 4
"""How often each thing must be drawn, at least, in so many seeds."""


@cache
def steps() -> tuple[Step, ...]:
    """Return all steps of the stories."""
    return tuple(step for seed in SEEDS for step in draw(seed))


KINDS = {
    *story.FAULTS,
    *story.MORE_FAULTS,
    *story.ETCD_FAULTS,
    *story.LIMIT_FAULTS,
    *("foreign_reset", "foreign_remake", "foreign_window"),
    *("clock_jumps", "worker_comes_back", "told_again", "worker_reconnects", "worker_fetches"),
} - {"submit_long"}
"""Steps that are drawn; a long task is submitted like any other."""


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_is_drawn(kind: str) -> None:
    """A few hundred stories contain each kind several times, so ten thousand contain it more often."""
    assert Counter(step.what for step in steps())[kind] >= OFTEN


def test_each_queue_refuses() -> None:
    """For their length: the dead, the rejected and workers' queues; for rights: workers' queues."""
    refused, forbidden = (
        {str(step.details[0]).rstrip("012345") for step in steps() if step.what == what}
        for what in ("queue_refuses", "queue_forbidden")
    )
    assert (refused, forbidden) == ({"dead", "rejected", "w"}, {"w"})


def test_each_limit_of_etcd() -> None:
    """Operations and bytes, and tasks that need more of both than a transaction takes."""
    small = {step.details[0] for step in steps() if step.what == "etcd_small"}
    wide = {step.details[2] for step in steps() if step.what == "submit_wide"}
    assert (small, wide) == ({"operations", "size"}, {33, 60, 200})


def test_windows_that_close_and_windows_that_open() -> None:
    """A window that allows nothing, one with a limit, and one with more than there is."""
    limits = {step.details[1] for step in steps() if step.what == "foreign_window"}
    assert limits == {0, 1, 5}


def test_workers_come_back_under_their_old_name() -> None:
    """With a goodbye; and without one, if they speak like the Ruby workers and were killed."""
    killed = {step.details[0] for step in steps() if step.what == "kill_worker"}
    grid = Grid(0)
    ruby = {number for number, worker in enumerate(grid.workers) if worker.ruby}
    grid.end()
    assert ruby & killed
    assert {step.details[0] for step in steps() if step.what == "worker_comes_back"} >= {4, 5}


def test_small_windows_of_workers_that_speak_as_the_page_says() -> None:
    """There are grids in which no worker speaks like the Ruby ones, with each small prefetch value."""
    drawn = Counter(found.prefetch for found in map(knobs.knobs, SEEDS) if found.readme)
    assert set(drawn) == set(knobs.PREFETCHES)
    assert min(drawn.values()) >= OFTEN


def test_little_memory_in_every_tenth_seed() -> None:
    """At least in every tenth; and both kinds occur."""
    few = [seed for seed in SEEDS if crowded(seed)]
    assert len(few) >= len(SEEDS) // 10
    for begin in SEEDS[::10]:
        assert any(crowded(seed) for seed in range(begin, begin + 10))
    used = [Grid(seed) for seed in few[:2]]
    assert [grid.policy.limits.memory for grid in used] == [*LITTLE[:2]]
    for grid in used:
        grid.end()


def test_little_memory_is_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """In such a seed most of the backlog has to be read later."""
    read: list[TaskRow] = []
    following = FakeLeadership.following

    async def counted(
        leadership: FakeLeadership, stretches: Sequence[Stretch]
    ) -> Sequence[Sequence[TaskRow]]:
        found = await following(leadership, stretches)
        read.extend(row for rows in found for row in rows)
        return found

    monkeypatch.setattr(FakeLeadership, "following", counted)
    few = [seed for seed in SEEDS if crowded(seed)][:4]
    assert [play(seed).violations for seed in few] == [()] * len(few)
    assert len(read) > 10 * len(few)


def test_what_workers_say_is_drawn() -> None:
    """Each result, an odd one, nothing, and the wish to try it elsewhere; tasks are named in each way."""
    voices = [Voice(seed, name) for seed in SEEDS[:40] for name in ("w0", "w5")]
    said = Counter(
        voice.end(f"t{number}", 1).fields.get("result") for voice in voices for number in range(10)
    )
    assert min(said[word] for word in (None, "green", "passed", "failed", "error")) >= OFTEN
    assert sum(voice.end(f"t{number}", 1).retry for voice in voices for number in range(10)) >= OFTEN
    named = {tuple(voice.about("t0", 1)) for voice in voices}
    assert named == {(), ("task",), ("attempt",), ("task", "attempt")}
    assert {voice.limits for voice in voices} == {voice.talks for voice in voices} == {False, True}


def test_every_step_can_happen() -> None:
    """Each step is a method of the grid and fits its parameters."""
    for step in steps():
        signature(getattr(Grid, step.what)).bind(None, *step.details)
