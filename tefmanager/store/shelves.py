"""Reads a backlog of which only a part fits into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tefmanager.core.model.values import NOTHING, Snapshot, Stretch, TaskRow
from tefmanager.store import rows
from tefmanager.store.session import Row

SUITES = 500
"""How many suites of a demand are read at a time."""

NAMED = 5_000
"""How many tasks are read at a time."""


class Run(Protocol):
    """Runs a query by its name."""

    async def __call__(self, name: str, *values: object) -> list[Row]:
        """Return the query's rows."""


class Shelves:
    """Reads plain tasks by demands and lanes, in portions, so that the reactor is not blocked.

    Args:
        survey: runs the queries ``survey`` and ``others``, which take longer than all others.
    """

    def __init__(self, run: Run, survey: Callable[[], Awaitable[tuple[list[Row], list[Row]]]]) -> None:
        self._run = run
        self._survey = survey

    async def hold_more_than(self, at_most: int) -> bool:
        """Tell whether there are more unfinished tasks than ``at_most``."""
        [(count,)] = await self._run("count_tasks", at_most + 1)
        return int(count) > at_most

    async def load(self) -> Snapshot:
        """Read the tasks that are not plain and the first of each demand; count the others.

        The server scans the whole table for this.
        """
        counts, others = await self._survey()
        demands = [row for is_demand, *row in counts if is_demand]
        suites = Counter({(row[0], row[2]): int(row[3]) for is_demand, *row in counts if not is_demand})
        found = await self._named([*(first for *_, first in demands), *(id for (id,) in others)])
        suites.subtract((row.spec.task_type, row.spec.suite) for row in found if row.plain)
        return Snapshot(
            tasks=tuple(found),
            unread=tuple(demand for demand in map(rows.unread_row, demands) if demand.count),
            unread_suites={key: count for key, count in suites.items() if count},
        )

    async def _named(self, ids: Sequence[int]) -> list[TaskRow]:
        wanted = sorted(ids)
        found: list[TaskRow] = []
        for begin in range(0, len(wanted), NAMED):
            portion = await self._run("load_named", wanted[begin : begin + NAMED])
            found.extend(map(rows.task_row, portion))
        return found

    async def tasks(self, guids: Sequence[str]) -> list[TaskRow]:
        """See `ILeadership.tasks`."""
        return [rows.task_row(row) for row in await self._run("load_guids", list(guids))]

    async def heads(self, task_type: str, resources: Sequence[str], each: int) -> list[TaskRow]:
        """See `ILeadership.heads`."""
        [found] = await self.following([Stretch(task_type, tuple(resources), None, NOTHING, each)])
        after = ""
        while portion := await self._run("load_heads", task_type, list(resources), after, SUITES, each):
            after = portion[-1][0]
            found.extend(rows.task_row(row) for _, *row in portion if row[0] is not None)
        return found

    async def following(self, stretches: Sequence[Stretch]) -> list[list[TaskRow]]:
        """See `ILeadership.following`."""
        found: list[list[TaskRow]] = [[] for _ in stretches]
        if stretches:
            for lane, *row in await self._run("load_following", rows.stretches_json(stretches)):
                found[lane].append(rows.task_row(row))
        return found
