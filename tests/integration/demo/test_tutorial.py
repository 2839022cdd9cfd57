"""The tutorial and the README's first task: what they tell readers to run does as they say."""

from __future__ import annotations

import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.demo_support import child_environment
from tests.integration.pages import Block, Reader, block, blocks, section
from tests.paths import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"

README = ROOT / "README.md"


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
    for each in blocks(TUTORIAL):
        reader.follow(each)
    assert set(reader.terminals) == {"manager", "worker"}


def test_first_task_of_the_readme(reader: Reader) -> None:
    """The README's shortest way to a task of one's own leads there."""
    found = section(README, "Your first task")
    for each in found:
        reader.follow(each)
    assert {each.where for each in found if each.kind == "console"} == {"manager", "worker", ""}


def test_page_is_where_the_sandbox_says(reader: Reader) -> None:
    """The address that the sandbox prints is that of this manager's page."""
    reader.follow(block(TUTORIAL, "manager", "console"))
    manager = reader.terminals["manager"]
    manager.expect("info LEADERSHIP_GAINED|1|0|0")
    [address] = re.findall(r"^  Page +(http://\S+)$", manager.text, re.MULTILINE)
    assert f"HTTP_LISTENING|{address.removeprefix('http://').rstrip('/')}\n" in manager.text
    with urllib.request.urlopen(address) as page:
        assert b"<title>tef-manager" in page.read()


WORKER = block(TUTORIAL, "worker.py")

LONG = '{"task_type": "greeter", "guid": "long", "task_data": {"name": "Zoe", "seconds": 6}}'


def test_worker_bears_a_long_test(reader: Reader) -> None:
    """A test that takes three times the interval of silence, here of 2 s, is done at the first attempt."""
    reader.set(TEF_MANAGER_MISSING_INTERVAL="2", TEF_MANAGER_WORKER_UPDATE_INTERVAL="1")
    reader.follow(block(TUTORIAL, "manager", "console"))
    assert "call_later(20, " in WORKER.text
    reader.follow(replace(WORKER, text=WORKER.text.replace("call_later(20, ", "call_later(0.5, ")))
    reader.follow(block(TUTORIAL, "worker", "console"))
    shown = "1 of 1 tasks accepted\n1 completed\n"
    reader.follow(Block("console", "", f"$ echo '{LONG}' | tefctl submit - --wait\n{shown}"))
    reader.terminals["manager"].expect("info TASK_COMPLETED|greeter|long|my-worker|1|unknown|6.0")
    assert "WORKER_MISSING" not in reader.terminals["manager"].text


def test_worker_is_short() -> None:
    """The page promises a worker in thirty lines; blank ones and imports are not counted."""
    lines = [line for line in WORKER.text.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 30
