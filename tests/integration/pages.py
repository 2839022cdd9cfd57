"""Blocks of documentation pages for tests, and a reader who follows them."""

from __future__ import annotations

import re
import signal
import subprocess
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from tests.integration.demo_support import exported

_BLOCK = re.compile(r"^ *```(\S+)(?: (\S+))?\n(.*?)^ *```$", re.DOTALL | re.M)


@dataclass(frozen=True)
class Block:
    """A block of a page: ``kind`` and ``where`` from its first line, then its text."""

    kind: str
    where: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return all blocks of a page, in order."""
    return _blocks(page.read_text())


def _blocks(text: str) -> list[Block]:
    """Return blocks, those in lists without the space before them."""
    return [Block(match[1], match[2] or "", textwrap.dedent(match[3])) for match in _BLOCK.finditer(text)]


def block(page: Path, where: str, kind: str = "") -> Block:
    """Return the one block of a page that has this name, and this kind if one is given."""
    [found] = [each for each in blocks(page) if each.where == where and kind in ("", each.kind)]
    return found


def section(page: Path, heading: str) -> list[Block]:
    """Return the blocks below a heading of a page's second level, in order."""
    text = page.read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"{page} has no section {heading}"
    return _blocks(found[1])


def comparable(text: str) -> str:
    """Replace everything that differs from run to run: times, ports, the sandbox's folder and password."""
    text = re.sub(r"^\d{4}-\d\d-\d\dT[\d:.+-]+ ", "", text, flags=re.MULTILINE)
    text = re.sub(r"/\S+/tef-sandbox-\w+", "SANDBOX", text)
    text = re.sub(r"tef:\w{16}@", "tef:PASSWORD@", text)
    text = re.sub(r"~\d{10}~", "~TIME~", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"^(.*TASK_COMPLETED.*)\|[\d.]+$", r"\1|SECONDS", text, flags=re.MULTILINE)
    text = re.sub(r" +$", "", text, flags=re.MULTILINE)
    return re.sub(r"(127\.0\.0\.1:|PORT_DEV=)\d+", r"\1PORT", text)


class Terminal:
    """A terminal in which a program runs for a long time."""

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
        """Everything shown so far."""
        return self._file.read_text()

    def expect(self, text: str) -> None:
        """Wait until these lines are shown, after what was expected before; others may be in between."""
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

    def set(self, **variables: str) -> None:
        """Set variables for everything that is started from now on."""
        self._environment |= variables

    def follow(self, block: Block) -> None:
        """Do what a block says, or check that it is true."""
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
