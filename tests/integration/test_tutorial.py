"""The tutorial: its programs and commands are taken from the page, run, and do what it says they do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.demo_support import ROOT, child_environment, exported

TUTORIAL = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of the page: ``kind`` and ``where`` from its first line, then its text."""

    kind: str
    where: str
    text: str


def blocks() -> list[Block]:
    """Return all blocks, in order."""
    return [
        Block(*(part or "" for part in found.groups())) for found in _BLOCK.finditer(TUTORIAL.read_text())
    ]


def comparable(text: str) -> str:
    """Replace whatever differs from run to run: times, ports, the sandbox's folder and password."""
    text = re.sub(r"^\d{4}-\d\d-\d\dT[\d:.+-]+ ", "", text, flags=re.MULTILINE)
    text = re.sub(r"/\S+/tef-sandbox-\w+", "SANDBOX", text)
    text = re.sub(r"tef:\w{16}@", "tef:PASSWORD@", text)
    text = re.sub(r"~\d{10}~", "~TIME~", text)
    return re.sub(r"(127\.0\.0\.1:|PORT_DEV=)\d+", r"\1PORT", text)


class Terminal:
    """A terminal in which a program runs for long."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self._file = folder / f"{len(list(folder.glob('*.terminal')))}.terminal"
        self._seen = 0
        with self._file.open("wb") as output:
            self.process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """All that it has shown so far."""
        return self._file.read_text()

    def expect(self, text: str) -> None:
        """Wait until it shows these lines, others between them or not, after what was expected before."""
        for line in comparable(text).splitlines():
            self._expect_line(line)

    def _expect_line(self, line: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while line not in (shown := comparable(self.text).splitlines())[self._seen :]:
            assert time.monotonic() < deadline, f"no line {line!r} in\n{self.text}"
            assert self.process.poll() is None, f"it ended:\n{self.text}"
            time.sleep(0.02)
        self._seen = shown.index(line, self._seen) + 1

    def end(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)


class Reader:
    """Somebody who follows the page."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self.terminals: dict[str, Terminal] = {}

    def follow(self, block: Block) -> None:
        """Do what a block says, or see that it is so."""
        if block.kind == "python":
            (self._folder / block.where).write_text(block.text)
        elif block.kind == "text":
            self.terminals[block.where].expect(block.text)
        elif block.kind == "console" and block.where:
            self._start(block)
        elif block.kind == "console":
            self._type(block.text)

    def _start(self, block: Block) -> None:
        command, _, shown = block.text.removeprefix("$ ").partition("\n")
        terminal = self.terminals[block.where] = Terminal(command, self._folder, self._environment)
        terminal.expect(shown)
        self._environment |= exported(terminal.text)

    def _type(self, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            if command.startswith("export "):
                command += " && env"
            output = self._run(command)
            if command.endswith(" && env"):
                self._environment |= dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
            else:
                assert comparable(output) == comparable(shown), command

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def leave(self) -> None:
        """Close the terminals, the last one first."""
        for terminal in reversed(self.terminals.values()):
            terminal.end()


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
    for block in blocks():
        reader.follow(block)
    assert set(reader.terminals) == {"manager", "worker"}


def test_worker_is_short() -> None:
    """The page promises a worker in twenty lines; blank ones and imports are not counted."""
    (worker,) = [block for block in blocks() if block.where == "worker.py"]
    lines = [line for line in worker.text.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 22
