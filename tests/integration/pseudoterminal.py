"""A terminal that a test types into, with a program that believes that people use it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

PATIENCE = 60.0
"""Seconds to wait for output before a test fails."""


class PseudoTerminal:
    """Runs a program in a terminal of its own.

    Attributes:
        text: what was shown since the last input.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *command: str) -> None:
        self._file, inner = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command],
            cwd=folder,
            env={**environment, "COLUMNS": "100", "LINES": "40"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)
        self.text = ""

    def type(self, text: str) -> None:
        """Type something."""
        self.text = ""
        os.write(self._file, text.encode())

    def until(self, text: str) -> None:
        """Wait until a text is shown, and forget what was shown before."""
        end = time.monotonic() + PATIENCE
        while text not in self.text:
            ready, _, _ = select.select([self._file], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self.text!r}"
            self.text += os.read(self._file, 4096).decode("utf-8", "replace")
        self.text = self.text.partition(text)[2]

    def end(self) -> int:
        """Press Ctrl-C, and return the program's exit status; further output is ignored."""
        os.write(self._file, b"\x03")
        return self.wait()

    def wait(self) -> int:
        """Return the program's exit status when it has ended; further output is ignored."""
        end = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            if select.select([self._file], [], [], 0.05)[0]:
                try:
                    os.read(self._file, 4096)
                except OSError:  # the program has closed its side
                    break
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        """Close the terminal, whatever runs in it."""
        self._process.kill()
        self._process.wait()
        os.close(self._file)
