"""The command: ``script/chaos``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.chaos.faults import FAULTS as KINDS
from tests.chaos.play import Outcome, Plan, play
from tests.chaos.screen import open_screen, verdict

TASKS, FAULTS, FAULTS_A_SECOND = 10_000, 500, 0.4


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="script/chaos",
        description="Breaks a grid of real programs in every way while tasks go through, and judges what "
        "became of them. Exit status 0 if nothing was lost, over its limit, leaked or run twice without a "
        "recorded reason, else 1.",
    )
    parser.add_argument("--tasks", type=int, default=TASKS, help="how many RabbitMQ confirms (%(default)s)")
    parser.add_argument("--faults", type=int, default=FAULTS, help="how many are struck (%(default)s)")
    parser.add_argument("--seconds", type=float, help="in about which time (2.5 for each fault)")
    parser.add_argument("--seed", type=int, help="chooses the faults (a new one, which is printed)")
    parser.add_argument("--folder", type=Path, help="for journals and logs, which are kept (a new one)")
    parser.add_argument("--only", action="append", default=[], help="only faults with this in their name")
    found = parser.parse_args()
    if found.tasks < 1 or found.faults < 1:
        parser.error("there must be tasks and faults")
    if found.only and not any(text in fault.name for text in found.only for fault in KINDS):
        parser.error(f"--only: there are these faults: {', '.join(sorted({each.name for each in KINDS}))}")
    return found


def main() -> None:
    """Run it."""
    found = options()
    seed = random.randrange(1_000_000) if found.seed is None else found.seed
    folder = found.folder or Path(tempfile.mkdtemp(prefix="tef-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    seconds = found.faults / FAULTS_A_SECOND if found.seconds is None else found.seconds
    console = Console()
    console.print(f"seed {seed}, journals and logs in {folder}", highlight=False)
    plan = Plan(found.tasks, found.faults, seconds, seed, folder, found.only)
    outcomes: list[Outcome] = []

    async def whole(_reactor: Any) -> None:
        with open_screen(console) as screen:
            outcomes.append(await play(plan, screen))

    try:
        react(lambda reactor: Deferred.fromCoroutine(whole(reactor)))
    except SystemExit as end:
        if end.code:
            raise
    (outcome,) = outcomes
    console.print(verdict(outcome.counts, outcome.faults))
    summary = "Nothing was lost." if outcome.well else "This must not be."
    console.print(f"{summary} {outcome.seconds:.0f} s, seed {seed}, {folder}", highlight=False)
    sys.exit(not outcome.well)


if __name__ == "__main__":
    main()
