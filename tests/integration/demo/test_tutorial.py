"""The tutorial: its programs and commands are taken from the page, run, and do what it says they do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.demo_support import child_environment
from tests.integration.pages import Reader, blocks
from tests.paths import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader with an empty folder and the virtual environment that runs these tests."""
    environment = child_environment(tmp_path)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONUNBUFFERED"] = "1"
    reader = Reader(tmp_path, environment)
    try:
        yield reader
    finally:
        reader.leave()


def test_tutorial(reader: Reader) -> None:
    """Every block of the page does, or shows, what the page says."""
    for block in blocks(TUTORIAL):
        reader.follow(block)
    assert set(reader.terminals) == {"manager", "worker"}


def test_worker_is_short() -> None:
    """The page promises a worker in twenty lines; blank ones and imports are not counted."""
    (worker,) = [block for block in blocks(TUTORIAL) if block.where == "worker.py"]
    lines = [line for line in worker.text.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 22
