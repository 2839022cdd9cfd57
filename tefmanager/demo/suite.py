"""The suite that the demo submits, the resources it competes for, and the expected results. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHELL, REPORT = "shell", "report"
"""The two types of workers, and so of tasks."""

LIMITS: Mapping[str, int] = {"database": 3, "licence": 1, "server": 2}
"""The resources, each with the most references at a time."""

SUITE = "demo-suite"

SHORTEST, LONGEST = 0.3, 1.5
"""Seconds a task takes."""

_COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("database", "server"),
    ("licence",),
    ("server",),
    ("database", "server"),
    ("database",),
    ("server",),
    ("database", "licence", "server"),
    ("database", "server"),
    ("licence", "server"),
    (),
    ("server",),
    ("database",),
)
_PRIORITIES = (1, 1, 1, 2, 5)


@dataclass(frozen=True, slots=True)
class DemoTask:
    """One task of the suite.

    Attributes:
        guid: its name, such as ``demo-07``.
        task_type: the type of the workers that may get it.
        priority: higher first.
        resources: names in `LIMITS`.
        seconds: how long its command takes.
        command: a shell command.
        expected: the expected result, besides the exit status.
    """

    guid: str
    task_type: str
    priority: int
    resources: tuple[str, ...]
    seconds: float
    command: str
    expected: Mapping[str, Any]

    def message(self) -> dict[str, Any]:
        """Return the message for the manager.

        Resources are named in both forms that are in use, a list and one string.
        """
        names = list(self.resources) if self.task_type == SHELL else "|".join(self.resources)
        return {
            "type": "task",
            "task_type": self.task_type,
            "guid": self.guid,
            "suite_guid": SUITE,
            "priority": self.priority,
            "resources": names,
            "task_data": {"command": self.command},
        }


def make_suite(count: int, seed: int) -> list[DemoTask]:
    """Return so many tasks; the same seed gives the same tasks."""
    dice = random.Random(seed)
    seconds = _spread(count)
    combinations = [_COMBINATIONS[index % len(_COMBINATIONS)] for index in range(count)]
    dice.shuffle(seconds)
    dice.shuffle(combinations)
    return [
        _task(index + 1, combinations[index], seconds[index], dice.choice(_PRIORITIES))
        for index in range(count)
    ]


def _spread(count: int) -> list[float]:
    """Return evenly spaced durations, so that the total time does not depend on the seed."""
    step = (LONGEST - SHORTEST) / max(1, count - 1)
    return [round(SHORTEST + step * index, 2) for index in range(count)]


def _task(number: int, resources: tuple[str, ...], seconds: float, priority: int) -> DemoTask:
    task_type = SHELL if number % 2 else REPORT
    what, expected = _square(number) if task_type == SHELL else _lines(number)
    command = f"sleep {seconds}; {what}"
    return DemoTask(f"demo-{number:02}", task_type, priority, resources, seconds, command, expected)


def _square(number: int) -> tuple[str, dict[str, Any]]:
    return f'echo "{number}² = $(({number} * {number}))"', {"output": f"{number}² = {number * number}\n"}


def _lines(number: int) -> tuple[str, dict[str, Any]]:
    last = number * 25
    size = sum(len(f"{each}\n") for each in range(1, last + 1))
    return f"seq {last}", {"lines": last, "bytes": size}
