"""Bodies that contain one JSON object per line."""

from __future__ import annotations

from collections.abc import Callable

from tefmanager.etcd.bodies import Bounded
from tefmanager.etcd.http import Stream

LONGEST_LINE = 16 * 1024 * 1024
"""The most bytes of a line, which contains the changes of some transactions."""


async def read_lines(stream: Stream, on_line: Callable[[bytes], None]) -> None:
    """Pass on each line of a body until the body ends; the body of an error is passed on as one line."""
    lines = Lines(on_line)
    await stream.read(lines.received)
    lines.ended()


class Lines:
    """Cuts received data into lines, without their ends; skips empty lines."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = Bounded("etcd's watch", LONGEST_LINE)

    def received(self, data: bytes) -> None:
        """Take in a piece of any size. Raises `ReservationsLost` if a line is too long."""
        if b"\n" not in data:
            self._rest.append(data)
            return
        head, *lines = data.split(b"\n")
        self._rest.append(head)
        lines.insert(0, self._rest.whole())
        self._rest.append(lines.pop())
        for line in filter(None, lines):
            self._on_line(line)

    def ended(self) -> None:
        """Take in the end of the data."""
        if rest := self._rest.whole():
            self._on_line(rest)
