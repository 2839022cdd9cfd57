"""Writes the page."""

from __future__ import annotations

from pathlib import Path


def write(results: Path, output: Path) -> None:
    """Write the page of some results into a folder."""
