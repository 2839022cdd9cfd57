"""Measures the cost of turns in lines of the manager's code and rows of its statements, not in seconds.

A grid is played twice: with a little of something, and with ten times as much. In both plays the same few
tasks are submitted and completed. Their cost must be the same, no matter how much waits beside them or is
finished. What Python does in one step (sorting or copying a list) counts as one line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import tefmanager
from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.core.model.limits import Memory
from tefmanager.core.model.values import AttemptRow, Snapshot, TaskRow, TaskSpec
from tests.fakes.store import FakeDatabase, FinishedTask
from tests.simulation.adapters import SimLeadership
from tests.simulation.grid import Grid
from tests.simulation.knobs import Knobs
from tests.simulation.story import Step
from tests.simulation.world import START

OURS = str(Path(tefmanager.__file__).parent)

LITTLE, MUCH = 60, 600
"""How much there is of what the cost of a turn must not depend on."""

SETTLED = 20.0
"""Seconds after which rows have been read and connections are established."""

SECONDS = 80.0
"""Seconds in which the tasks are submitted and completed."""

TOLERANCE = 1.05
"""If ten times as much of something costs more than so many times as much, the cost grows."""

SEED = 8
"""The seed of an ordinary grid."""

TASKS = tuple(
    Step(
        SETTLED + 1.0 + 2.0 * number,
        "submit",
        (f"t{number}", "x", 1.0, (("licence",), ())[number % 2], (None, "S1")[number % 3 == 0], 1.0),
    )
    for number in range(20)
)
"""The tasks that are submitted: with and without a resource, with and without a suite."""

Prepare = Callable[[Grid, int], None]


@dataclass
class Effort:
    """The cost of something; ``rows`` are those that statements returned."""

    lines: int = 0
    statements: int = 0
    rows: int = 0

    def grew(self, less: Effort) -> list[str]:
        """Return which costs grew, compared with those for a tenth of the amount."""
        mine, others = vars(self), vars(less)
        return [
            f"{what}: {others[what]} became {count}"
            for what, count in mine.items()
            if count > TOLERANCE * others[what] + 10
        ]


@contextmanager
def measured(effort: Effort) -> Iterator[None]:
    """Measure what the manager does."""

    def line(frame: FrameType, event: str, argument: object) -> Any:
        effort.lines += event == "line"
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(OURS) else None

    trip = SimLeadership._trip

    async def counted(leadership: SimLeadership, request: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        answer = await trip(leadership, request)
        effort.statements += 1
        effort.rows += _size(answer)
        return answer

    before = sys.gettrace()
    with patch.object(SimLeadership, "_trip", counted):
        sys.settrace(call)
        try:
            yield
        finally:
            sys.settrace(before)


def _size(answer: object) -> int:
    """Return the number of rows in an answer."""
    if isinstance(answer, Snapshot):
        return answer.count + len(answer.unresolved) + len(answer.workers)
    if isinstance(answer, tuple):
        return sum(map(_size, answer))
    return len(answer) if isinstance(answer, Sized) else 0


# --- what there is little or much of ---


def history(grid: Grid, count: int) -> None:
    """Add finished tasks, some of them dead, of many suites, with their attempts."""
    rows = grid.database.rows
    for id in range(1, count + 1):
        spec = TaskSpec(id, f"h{id}", "xy"[id % 2], 1.0, (), f"H{id // 5}", None, START - 60.0)
        ended = START - 30.0
        outcome = (Outcome.COMPLETED, Outcome.DEAD)[id % 2]
        rows.history[id] = FinishedTask(TaskRow(spec, attempts=1), outcome, ended, b"{}")
        rows.attempts[id] = AttemptRow(
            id, id, spec.guid, 1, "w0", ended, ended, ended, AttemptEnd.COMPLETED
        )
    above(grid.database, count)


def backlog(grid: Grid, count: int) -> None:
    """Add waiting tasks: for a resource that is not available, and in a suite that is paused."""
    grid.etcd.set("closed/ref_limit", "0")
    rows = grid.database.rows
    for id in range(1, count + 1):
        names, suite = ((("closed",), f"B{id % 7}"), ((), "held"))[id % 2]
        spec = TaskSpec(id, f"b{id}", "x", 1.0, names, suite, None, START - 60.0)
        rows.tasks[id] = (TaskRow(spec), b"{}")
    rows.paused.add("held")
    above(grid.database, count)


def over(grid: Grid, count: int) -> None:
    """Submit tasks of many suites, and bad messages, that are all over before the measurement begins."""
    for number in range(count // 6):
        details = (f"o{number}", "x", 1.0, (), f"O{number}", 0.1)
        grid.world.clock.callLater(SETTLED * number / count, grid.submit, *details)
        grid.world.clock.callLater(SETTLED * number / count, grid.send_garbage, "{")


def above(database: FakeDatabase, count: int) -> None:
    """Make sure that no number is given out a second time."""
    rows = database.rows
    rows.manager = type(rows.manager)(task_ids=count + 1, attempt_ids=count + 1)


KINDS: dict[str, Prepare] = {"history": history, "backlog": backlog, "unread": backlog, "over": over}

FEW = Knobs({"memory": Memory(tasks=5, first=2, most=4)})
"""Knobs with which the backlog is in the database only."""


def cost(kind: str, count: int) -> Effort:
    """Play the tasks beside so much of something, and return what they cost.

    A manager that starts afterwards has read everything before the measurement begins.
    """
    grid, effort = Grid(SEED, 1, FEW if kind == "unread" else Knobs()), Effort()
    KINDS[kind](grid, count)
    for step in TASKS:
        grid.world.clock.callLater(step.at, getattr(grid, step.what), *step.details)
    grid.world.run(SETTLED)
    with measured(effort):
        grid.world.run(SECONDS)
    done = {task.row.spec.guid for task in grid.database.rows.history.values()}
    grid.end()
    assert done >= {str(step.details[0]) for step in TASKS}, "the tasks were not done"
    return effort


def growth(kind: str) -> list[str]:
    """Return which costs grow with something that must not cost anything."""
    return cost(kind, MUCH).grew(cost(kind, LITTLE))
