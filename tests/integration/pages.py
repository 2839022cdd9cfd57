"""Blocks of documentation pages, which tests take from the pages and run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of a page: ``kind`` and ``where`` from its first line, then its text."""

    kind: str
    where: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return all blocks of a page, in order."""
    found = _BLOCK.finditer(page.read_text())
    return [Block(*(part or "" for part in match.groups())) for match in found]


def block(page: Path, where: str) -> Block:
    """Return the one block of a page that has this name."""
    [found] = [each for each in blocks(page) if each.where == where]
    return found
