"""A journal of what a program of the grid did, which loses no line when the program dies."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Appends records to a file, each with one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, event: str, **fields: object) -> None:
        """Record an event and its time."""
        record = {"event": event, "time": time.time(), **fields}
        os.write(self._file, json.dumps(record).encode() + b"\n")


def read(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    """Yield all records of the journals in a folder, one journal after the other."""
    for path in sorted(folder.glob(pattern)):
        with path.open("rb") as lines:
            for line in lines:
                yield json.loads(line)
