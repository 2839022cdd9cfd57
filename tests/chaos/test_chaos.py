"""The short form of ``script/chaos``: faults of all kinds, for about a minute."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

from tests.chaos.breaker import AHEAD, drawn
from tests.chaos.refusals import REFUSALS
from tests.paths import ROOT

SEED = 11177
"""One with each of the faults after which a service has forgotten something or refuses it."""

FAULTS = 25


def test_short_form(tmp_path: Path) -> None:
    """400 tasks and 25 faults: nothing is lost, over its limit, leaked or run twice without a reason."""
    command = [sys.executable, "-m", "tests.chaos", "--tasks=400", f"--faults={FAULTS}", "--seconds=50"]
    done = subprocess.run(
        [*command, f"--seed={SEED}", f"--folder={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_short_form_strikes() -> None:
    """The seed is a good one whatever has to wait for its turn: change it when there are new faults."""
    struck = {fault.name for fault in islice(drawn(SEED), FAULTS - AHEAD)}
    assert {fault.name for fault in REFUSALS} <= struck
