"""What turns cost, counted in lines of the manager's code and in rows of its statements, not in seconds.

A grid is played twice: with a little of something, and with ten times as much. In both the same few tasks
come and are done. What that costs must be the same, whatever waits beside them and whatever is over. What
Python does in one step of its own (to sort a list, to copy one) counts as one line.
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
from tefmanager.core.model.limits import Memory
from tefmanager.core.model.values import AttemptEnd, AttemptRow, Outcome, Snapshot, TaskRow, TaskSpec
from tests.fakes.store import FakeDatabase, FinishedTask
from tests.simulation.adapters import SimLeadership
from tests.simulation.grid import Grid
from tests.simulation.knobs import Knobs
from tests.simulation.story import Step
from tests.simulation.world import START

OURS = str(Path(tefmanager.__file__).parent)

LITTLE, MUCH = 60, 600
"""Of whatever a turn must not depend on."""

SETTLED = 20.0
"""Seconds after which the rows were read, and everyone has found everyone."""

SECONDS = 80.0
"""Seconds in which the tasks come and are done."""

TOLERANCE = 1.05
"""More than so many times as much with ten times as much of something: it grows."""

SEED = 8
"""Of a grid that is as usual."""

TASKS = tuple(
    Step(
        SETTLED + 1.0 + 2.0 * number,
        "submit",
        (f"t{number}", "x", 1.0, (("licence",), ())[number % 2], (None, "S1")[number % 3 == 0], 1.0),
    )
    for number in range(20)
)
"""What comes: with a resource and without, of a suite and of none."""

Prepare = Callable[[Grid, int], None]


@dataclass
class Effort:
    """What something cost; ``rows`` are those that statements returned."""

    lines: int = 0
    statements: int = 0
    rows: int = 0

    def grew(self, less: Effort) -> list[str]:
        """Tell what of it is more than it should be, beside what it was with a tenth of something."""
        mine, others = vars(self), vars(less)
        return [
            f"{what}: {others[what]} became {count}"
            for what, count in mine.items()
            if count > TOLERANCE * others[what] + 10
        ]


@contextmanager
def measured(effort: Effort) -> Iterator[None]:
    """Count what the manager does."""

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
    """Count the rows of an answer."""
    if isinstance(answer, Snapshot):
        return answer.count + len(answer.unresolved) + len(answer.workers)
    if isinstance(answer, tuple):
        return sum(map(_size, answer))
    return len(answer) if isinstance(answer, Sized) else 0


# --- of what there is little, or much ---


def history(grid: Grid, count: int) -> None:
    """Tasks that ended before, some of them dead, of many suites, with their attempts."""
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
    """Tasks that wait: for a resource that is not to be had, and in a suite that is held back."""
    grid.etcd.set("closed/ref_limit", "0")
    rows = grid.database.rows
    for id in range(1, count + 1):
        names, suite = ((("closed",), f"B{id % 7}"), ((), "held"))[id % 2]
        spec = TaskSpec(id, f"b{id}", "x", 1.0, names, suite, None, START - 60.0)
        rows.tasks[id] = (TaskRow(spec), b"{}")
    rows.paused.add("held")
    above(grid.database, count)


def over(grid: Grid, count: int) -> None:
    """What comes and is over while the manager leads: tasks of suites of their own, and bad messages."""
    for number in range(count // 6):
        details = (f"o{number}", "x", 1.0, (), f"O{number}", 0.1)
        grid.world.clock.callLater(SETTLED * number / count, grid.submit, *details)
        grid.world.clock.callLater(SETTLED * number / count, grid.send_garbage, "{")


def above(database: FakeDatabase, count: int) -> None:
    """Give no number a second time."""
    rows = database.rows
    rows.manager = type(rows.manager)(task_ids=count + 1, attempt_ids=count + 1)


KINDS: dict[str, Prepare] = {"history": history, "backlog": backlog, "unread": backlog, "over": over}

FEW = Knobs({"memory": Memory(tasks=5, first=2, most=4)})
"""The backlog stands in the database alone."""


def cost(kind: str, count: int) -> Effort:
    """Play the tasks beside so much of something, and return what they cost.

    What was there is read by a manager that begins anew, before anything is counted.
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
    """Return what grows with something that must not cost anything."""
    return cost(kind, MUCH).grew(cost(kind, LITTLE))
