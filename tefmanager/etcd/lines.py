"""Bodies that are JSON, one object a line."""

from __future__ import annotations

from collections.abc import Callable

from tefmanager.etcd.http import Stream


async def read_lines(stream: Stream, on_line: Callable[[bytes], None]) -> None:
    """Hand on each line of a body until it ends; an error's body is one, too."""
    lines = Lines(on_line)
    await stream.read(lines.received)
    lines.ended()


class Lines:
    """Cuts what is received into lines, without their ends; empty ones are left out."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest: list[bytes] = []

    def received(self, data: bytes) -> None:
        """Take in a piece of any size."""
        if b"\n" not in data:
            self._rest.append(data)
            return
        *lines, rest = b"".join([*self._rest, data]).split(b"\n")
        self._rest = [rest]
        for line in filter(None, lines):
            self._on_line(line)

    def ended(self) -> None:
        """Take in that nothing follows."""
        rest = b"".join(self._rest)
        self._rest = []
        if rest:
            self._on_line(rest)
