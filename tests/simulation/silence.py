"""Sees from outside what managers have to do without, and that none of them is silent about it.

It shares no code with the core: it knows what is broken, and reads what is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from tests.simulation.broker import Broker
from tests.simulation.observer import Observer

if TYPE_CHECKING:
    from tefmanager.loglines import Line
    from tefmanager.manager import Manager
    from tests.fakes.store import FakeDatabase
    from tests.simulation.etcd import SimReservations
    from tests.simulation.world import Process

PROMISED = 30.0
"""Seconds for which a manager may be silent about what is away."""

FOUND = 12.0
"""Seconds that it may take to find out: a server that went silent."""

SLACK = 3.0
"""Seconds between two looks of the manager, and two of ours."""


class Silence:
    """Looks every few seconds.

    Args:
        hangs: tells whether a service takes what is asked, and answers nothing.
    """

    def __init__(
        self, observer: Observer, broker: Broker, database: FakeDatabase, hangs: Callable[[str], bool]
    ) -> None:
        self._observer = observer
        self._broker = broker
        self._database = database
        self._hangs = hangs
        self._since: dict[tuple[str, str], float] = {}
        self._told: dict[tuple[str, str], float] = {}

    def heard(self, process: Process, line: Line) -> None:
        """A manager logs what it waits for."""
        if line.event.name == "WAITING_FOR":
            service = str(line.values[0]).partition(" ")[0].rstrip(":")
            self._told[process.name, service] = process.world.time

    def look(self, time: float, managers: Iterable[tuple[Process, Manager, SimReservations]]) -> None:
        """Look for managers that have had to do without something, and have not said so lately."""
        away = {
            (process.name, service)
            for process, manager, reservations in managers
            if process.alive and not process.frozen
            for service in self._away(process, manager, reservations)
        }
        self._since = {each: self._since.get(each, time) for each in away}
        for each, since in self._since.items():
            last = max(self._told.get(each, 0.0), since + FOUND)
            if time - last > PROMISED + SLACK:
                process, service = each
                self._observer.object(f"{process} says nothing of {service}, away for {time - since:.0f} s")

    def _away(self, process: Process, manager: Manager, reservations: SimReservations) -> Collection[str]:
        leads, found = manager.core is not None, set[str]()
        full = self._database.full is not None and leads  # who writes nothing may not know
        there = full or self._database.obstacle("") is None
        if process.cut or not there or self._hangs("database"):
            found.add("database")
        if process.cut or not self._broker.up:
            found |= {"publisher", "consumer"} if leads else {"publisher"}
        elif self._broker.blocked:
            found.add("blocked")
        elif self._broker.hung and leads:
            found.add("probe")
        if leads and not reservations.up:
            found.add("etcd")
        return found
