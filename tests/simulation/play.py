"""Plays stories, and shortens the ones that end badly as far as possible.

python -m tests.simulation.play --seeds 10000        many, with a progress bar
python -m tests.simulation.play --first 816          one, told step by step if it ends badly
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogBeginner, globalLogPublisher
from zope.interface import provider

from tests.simulation.grid import MENDING, Grid
from tests.simulation.story import DURATION, Step, draw

BATCH = 50
"""How many seeds a process plays before its memory is freed."""

KEPT = Path(__file__).with_name("kept_seeds.txt")
"""Seeds that ended badly, one a line; lines that begin with # are comments."""


@dataclass(frozen=True)
class Play:
    """The result of a story.

    Attributes:
        seed: its seed.
        violations: what must not have happened; empty if all went well.
        simulated: how many seconds passed in it.
        steps: how many steps the first manager took.
        log: the managers' log lines, with simulated times.
    """

    seed: int
    violations: tuple[str, ...]
    simulated: float
    steps: int
    log: tuple[str, ...] = ()


def play(
    seed: int,
    story: Sequence[Step] | None = None,
    *,
    managers: int | None = None,
    duration: float = DURATION,
    mending: float = MENDING,
) -> Play:
    """Play a seed's story, or another story in the same world.

    ``managers``: how many there are; None: the seed decides. ``duration`` and ``mending`` are the seconds
    in which things happen, and those that then remain to finish.
    """
    grid = Grid(seed, managers=1 + seed % 2 if managers is None else managers)
    log: list[str] = []
    errors: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        line = formatEvent(event)
        log.append(f"{grid.world.time:9.3f}  {line}")
        grid.verdicts.logged(line)
        if "log_failure" in event:
            errors.append(f"an error was logged: {event['log_failure'].getErrorMessage()}")

    globalLogPublisher.addObserver(observe)
    try:
        story = draw(seed) if story is None else story
        violations = grid.tell(list(story), duration=duration, mending=mending)
        grid.end()
    finally:
        globalLogPublisher.removeObserver(observe)
    steps = grid.managers[0][0].steps
    return Play(seed, (*violations, *errors), grid.world.time, steps, tuple(log))


def shortest(seed: int) -> list[Step]:
    """Return a story that still ends badly and would not if any of its steps were left out."""
    story = draw(seed)
    size = max(1, len(story) // 2)
    while size:
        shorter = _without_some(seed, story, size)
        if shorter is None:
            size //= 2
        else:
            story = shorter
    return story


def _without_some(seed: int, story: list[Step], size: int) -> list[Step] | None:
    for start in range(0, len(story), size):
        shorter = story[:start] + story[start + size :]
        if play(seed, shorter).violations:
            return shorter
    return None


def describe(seed: int) -> str:
    """Return the shortest story of a seed that ends badly, how it ends, and the log."""
    story = shortest(seed)
    ending = play(seed, story)
    lines = [f"seed {seed} ends badly:", *(f"  {violation}" for violation in ending.violations)]
    lines += ["the shortest story in which it does:", *(f"  {step}" for step in story)]
    return "\n".join([*lines, "the log:", *ending.log])


def batch(seeds: Iterable[int]) -> list[Play]:
    """Play some seeds; the logs of those that went well are dropped."""
    plays = [play(seed) for seed in seeds]
    return [Play(each.seed, each.violations, each.simulated, each.steps) for each in plays]


def main(arguments: Sequence[str] | None = None) -> int:
    """Play many seeds on all cores; return 1 if one ends badly."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    options = parser.parse_args(arguments)
    _be_quiet()
    began = time.monotonic()
    bad, simulated = _play_all(range(options.first, options.first + options.seeds))
    took = time.monotonic() - began
    print(f"{options.seeds} seeds, {len(bad)} end badly; {took:.0f} s, {simulated / took:.0f} × real time")
    if bad:
        keep(bad)
        print(
            f"they are: {', '.join(map(str, bad))}; tests from now on, by {KEPT.name}\n{describe(bad[0])}"
        )
    return 1 if bad else 0


def kept() -> list[int]:
    """Return the seeds that once ended badly and have not been investigated yet."""
    return [int(line) for line in KEPT.read_text().splitlines() if not line.startswith("#")]


def keep(seeds: Iterable[int]) -> None:
    """Make tests of seeds."""
    new = [seed for seed in seeds if seed not in kept()]
    with KEPT.open("a") as file:
        file.writelines(f"{seed}\n" for seed in new)


def _be_quiet() -> None:
    """Suppress messages about the dead processes' coroutines that Python destroys at the end."""
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _play_all(seeds: range) -> tuple[list[int], float]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    bad: list[int] = []
    simulated = 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns) as progress,
        # Not concurrent.futures: it does not replace workers that reached the limit (gh-115634).
        Pool(initializer=_be_quiet, maxtasksperchild=4) as pool,
    ):
        bar = progress.add_task("seeds", total=len(seeds))
        for plays in pool.imap(batch, batches):
            bad += [each.seed for each in plays if each.violations]
            simulated += sum(each.simulated for each in plays)
            progress.update(bar, advance=len(plays), description=f"seeds, {len(bad)} bad")
    return bad, simulated


if __name__ == "__main__":
    sys.exit(main())
