"""Brings into memory, before a turn, what it will need of the tasks that stand in the database alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tefmanager.core.backlog import Backlog
from tefmanager.core.lanes import Road
from tefmanager.core.values import NOTHING, Stretch
from tefmanager.interfaces import IReign
from tefmanager.messages import SuiteCommand, TaskMessage, WorkerMessage

PORTION = 100
"""Tasks of a suite on a road that are read at a time."""

STRETCHES = 50
"""Lanes that are read at a time, where much may be in each of them."""


class Pager:
    """Reads for a backlog. Only between turns, when memory and rows agree.

    While everything is in memory it asks for nothing.
    """

    def __init__(self, backlog: Backlog, reign: IReign) -> None:
        self._backlog = backlog
        self._reign = reign

    def needed(self, message: object) -> bool:
        """Tell whether something may have to be read before this message is taken in."""
        if not self._backlog.unread:
            return False
        guid = _names(message)
        return isinstance(message, SuiteCommand) or (guid is not None and guid not in self._backlog.by_guid)

    async def prepare(self, messages: Iterable[object]) -> None:
        """Page in what the messages of a turn name, and what the last turn could not plan without."""
        if not self._backlog.unread and not self._backlog.hungry:
            return
        messages = list(messages)
        await self._named(messages)
        for message in messages:
            match message:
                case SuiteCommand("stop_suite", suite):
                    await self._all_of(suite)
                case SuiteCommand("ready_suite", suite):
                    await self._first_of(suite)
        for road in self._backlog.roads_to_read():
            await self._read_road(road)
        await self._read_lanes()

    async def _named(self, messages: Sequence[object]) -> None:
        """A task may come twice, and a worker may say that it works on one that waits."""
        known = self._backlog.by_guid
        guids = [guid for guid in map(_names, messages) if guid is not None and guid not in known]
        if guids:
            self._backlog.page_in(await self._reign.tasks(guids))

    async def _all_of(self, suite: str) -> None:
        roads = self._backlog.unread_roads()
        stretches = [_stretch(road, suite, PORTION) for road in roads]
        while stretches:
            batch, stretches = stretches[:STRETCHES], stretches[STRETCHES:]
            for stretch, rows in zip(batch, await self._reign.following(batch), strict=True):
                self._backlog.page_in(rows)
                if len(rows) == stretch.at_most:
                    stretches.append(replace(stretch, after=rows[-1].spec.order))

    async def _first_of(self, suite: str) -> None:
        """On roads where nobody but paused suites waits it may be the only one to compete."""
        roads = [road for road in self._backlog.unread_roads() if road.cold is not None and road.cold.held]
        for begin in range(0, len(roads), STRETCHES):
            batch = [_stretch(road, suite, 1) for road in roads[begin : begin + STRETCHES]]
            for rows in await self._reign.following(batch):
                self._backlog.page_in(rows)

    async def _read_road(self, road: Road) -> None:
        each = self._backlog.memory.first
        rows = await self._reign.heads(road.yard.task_type, road.resources, each)
        self._backlog.read_road(road, rows, each)

    async def _read_lanes(self) -> None:
        lanes = self._backlog.lanes_to_read()
        stretches = [
            Stretch(
                lane.road.yard.task_type,
                lane.road.resources,
                lane.suite,
                lane.horizon or NOTHING,
                lane.portion,
            )
            for lane in lanes
        ]
        if lanes:
            for lane, rows in zip(lanes, await self._reign.following(stretches), strict=True):
                self._backlog.read_lane(lane, rows)


def _names(message: object) -> str | None:
    """Return the guid of a task that a message is about and that may wait."""
    match message:
        case TaskMessage():
            return message.guid
        case WorkerMessage(status="working"):
            return message.task
    return None


def _stretch(road: Road, suite: str, at_most: int) -> Stretch:
    return Stretch(road.yard.task_type, road.resources, suite, NOTHING, at_most)
