"""The CPU time and memory that processes use, from ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tefmanager.sandbox import guard

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(root: int) -> float:
    """Return the CPU seconds that a process and its descendants have used, including ended ones."""
    return sum(_ticks(pid) for pid in (root, *guard.descendants(root))) / _TICK


def _ticks(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15])  # utime, stime, and both for ended children
    return 0


def memory(pid: int) -> tuple[float, float]:
    """Return the memory that a process uses now, and its peak, in MB (10⁶ bytes)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(values["VmRSS"]) * 1024 / 1e6, int(values["VmHWM"]) * 1024 / 1e6


class Meter:
    """Measures the CPU time that programs use from its creation on.

    Args:
        roots: ids of the programs' topmost processes, by name.
    """

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = dict(roots)
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(root) for name, root in self._roots.items()}

    def used(self) -> dict[str, float]:
        """Return the CPU seconds used so far, by name."""
        return {name: seconds - self._before[name] for name, seconds in self._now().items()}

    def each(self, tasks: int) -> dict[str, float]:
        """Return the CPU milliseconds used for each of so many tasks, as ``cpu_ms <name>``."""
        return {f"cpu_ms {name}": 1000 * seconds / tasks for name, seconds in self.used().items()}
