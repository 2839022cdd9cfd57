"""The short form of ``script/chaos``: all kinds of faults, for about a minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.daemon import ROOT


def test_short_form(tmp_path: Path) -> None:
    """500 tasks and 25 faults: nothing is lost, over its limit, leaked or run twice without a reason."""
    command = [sys.executable, "-m", "tests.chaos", "--tasks=500", "--faults=25", "--seconds=50"]
    done = subprocess.run(
        [*command, f"--folder={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
