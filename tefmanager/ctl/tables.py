"""Tables for terminals from which names can be copied."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from tefmanager.protocol.catalogue import UNSAFE, one_line

LEAST = 6
"""The least width of a shortened name, in columns."""

_GAP = "  "
_INDENT = "    "

_STYLES = {
    "running": "green",
    "working": "green",
    "completed": "green",
    "passed": "green",
    "dispatched": "cyan",
    "reserving": "cyan",
    "paused": "yellow",
    "stopped": "yellow",
    "stalled": "red",
    "missing": "red",
    "dead_lettering": "red",
    "dead": "red",
    "failed": "red",
    "error": "red",
}


def safe(text: str) -> str:
    """Return a text without what could control a terminal; other texts stay as they are."""
    return UNSAFE.sub(lambda found: found[0] if found[0] in "|\\" else one_line(found[0]), text)


def as_json(value: object, indent: int | None = None) -> str:
    """Return a value as JSON that can't control a terminal, whoever made it."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, default=_read_as_text)
    except RecursionError:
        return json.dumps("nested too deep to be shown")
    return UNSAFE.sub(lambda found: found[0] if found[0] in "|\\\n" else f"\\u{ord(found[0]):04x}", text)


def _read_as_text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def cell(value: object) -> Text:
    """Return a value as text without markup."""
    text = "" if value is None else str(value)
    return Text(safe(text), style=_STYLES.get(text, ""))


class Rows:
    """A table with one line per row.

    On a terminal that is too narrow, names are shortened in the middle; if that is not enough, the last
    columns of such names are left out. But names that commands take stay whole, so that they can be copied.

    Args:
        heads: headings of the columns. ``#`` in front marks a column of numbers, ``*`` one of names that
            are never shortened, ``~`` one of names that may be.
    """

    def __init__(self, *heads: str) -> None:
        self._kinds = [head[0] if head[0] in "#*~" else "" for head in heads]
        self._lines = [[Text(head.lstrip("#*~"), style="bold") for head in heads]]
        self._notes: dict[int, Text] = {}

    def add(self, *values: object, note: str | None = None) -> None:
        """Add a row. A terminal shows its note below it, as far as it fits; a file has it at the end."""
        if note is not None:
            self._notes[len(self._lines)] = cell(note)
        self._lines.append([value if isinstance(value, Text) else cell(value) for value in values])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the lines; if the output is no terminal, nothing is shortened or left out."""
        columns = list(zip(self._kinds, zip(*self._lines, strict=True), strict=True))
        widths = [max(each.cell_len for each in cells) for _, cells in columns]
        if console.is_terminal:
            widths = fitted(widths, [kind == "~" for kind, _ in columns], options.max_width)
        shown = [
            (kind, cells, width) for (kind, cells), width in zip(columns, widths, strict=True) if width
        ]
        for at in range(len(self._lines)):
            line, note = (
                _line((kind, cells[at], width) for kind, cells, width in shown),
                self._notes.get(at),
            )
            if note is None:
                yield line
            elif console.is_terminal:
                yield line
                yield _below(note, options.max_width)
            else:
                yield line.append(_GAP).append_text(note)


def _line(cells: Iterable[tuple[str, Text, int]]) -> Text:
    made = Text(no_wrap=True, overflow="ignore")
    for kind, each, width in cells:
        text = Text(shortened(each.plain, width), style=each.style)
        blanks = " " * (width - text.cell_len)
        made.append_text(Text.assemble(*((blanks, text) if kind == "#" else (text, blanks)), _GAP))
    made.rstrip()
    return made


def _below(note: Text, room: int) -> Text:
    """Return a note as an indented line that is no wider than the terminal."""
    made = Text(_INDENT, no_wrap=True, overflow="ignore").append_text(note)
    made.truncate(room, overflow="ellipsis")
    return made


def fitted(widths: Sequence[int], flexible: Sequence[bool], room: int) -> list[int]:
    """Return column widths that fit into so much room, if possible: the widest flexible columns shrink.

    A flexible column for which there is no room gets the width 0, the last ones first.
    """
    least = [min(width, LEAST) if may else width for width, may in zip(widths, flexible, strict=True)]
    found = list(widths)
    for at in reversed([at for at, may in enumerate(flexible) if may]):
        if _whole(least) > room:
            least[at] = found[at] = 0
    while _whole(found) > room and found != least:
        found[max(range(len(found)), key=lambda at: found[at] - least[at] and found[at])] -= 1
    return found


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (sum(width > 0 for width in widths) - 1)


def shortened(text: str, width: int) -> str:
    """Return a text, its middle left out if it is too wide: beginning and end tell names apart."""
    if cell_len(text) <= width:
        return text
    end = text[-(width // 2) :]
    while cell_len(end) > width // 2:
        end = end[1:]
    return f"{set_cell_size(text, width - 1 - cell_len(end)).rstrip()}…{end}"
