"""Reads, before a turn, the unread tasks that the turn will need."""

from __future__ import annotations

from collections.abc import Iterable

from tefmanager.core.model.values import NOTHING
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.core.waiting.lanes import Demand
from tefmanager.interfaces.store import ILeadership
from tefmanager.protocol.messages import TaskMessage, WorkerMessage


class Pager:
    """Reads tasks for the backlog. Works only between turns, when memory and rows agree.

    While all tasks are in memory, it reads nothing.
    """

    def __init__(self, backlog: Backlog, leadership: ILeadership) -> None:
        self._backlog = backlog
        self._leadership = leadership

    def needed(self, message: object) -> bool:
        """Tell whether rows may have to be read before this message can be taken in."""
        if not self._backlog.unread:
            return False
        guid = _names(message)
        return guid is not None and guid not in self._backlog.by_guid

    async def prepare(self, messages: Iterable[object]) -> None:
        """Page in the tasks that a turn's messages name, and those that the last plan needed."""
        if not self._backlog.unread and not self._backlog.needs_rows:
            return
        await self._named(messages)
        await self._sweep()
        for rows in await self._leadership.following(self._backlog.to_read.readied()):
            self._backlog.page_in(rows)
        for demand in self._backlog.to_read.demands():
            await self._read_demand(demand)
        await self._read_lanes()

    async def _named(self, messages: Iterable[object]) -> None:
        """Page in tasks that are sent again, and waiting tasks that a worker reports."""
        known = self._backlog.by_guid
        guids = [guid for guid in map(_names, messages) if guid is not None and guid not in known]
        if guids:
            self._backlog.page_in(await self._leadership.tasks(guids))

    async def _sweep(self) -> None:
        """Read the next tasks of a suite that is being stopped, if none of them is in memory."""
        known = self._backlog.by_guid
        for sweep in self._backlog.sweeps.values():
            stretches = sweep.to_read()
            for stretch, rows in zip(stretches, await self._leadership.following(stretches), strict=True):
                self._backlog.page_in(rows)
                sweep.read(stretch, rows, [known[row.spec.guid] for row in rows])
            return

    async def _read_demand(self, demand: Demand) -> None:
        each = self._backlog.memory.first
        rows = await self._leadership.heads(demand.type_queue.task_type, demand.resources, each)
        self._backlog.read_demand(demand, rows, each)

    async def _read_lanes(self) -> None:
        lanes = self._backlog.to_read.lanes()
        stretches = [
            lane.demand.stretch(lane.suite, lane.loaded_up_to or NOTHING, lane.batch) for lane in lanes
        ]
        if lanes:
            for lane, rows in zip(lanes, await self._leadership.following(stretches), strict=True):
                self._backlog.read_lane(lane, rows)


def _names(message: object) -> str | None:
    """Return the guid of the task that a message is about, if that task may be waiting."""
    match message:
        case TaskMessage():
            return message.guid
        case WorkerMessage(status="working"):
            return message.task
    return None
