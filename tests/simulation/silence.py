"""Checks from outside that no manager is silent about an outage.

It shares no code with the core: it knows what is broken, and reads what is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

from tests.simulation.broker import Broker
from tests.simulation.observer import Observer

if TYPE_CHECKING:
    from tefmanager.protocol.catalogue import LoggedEvent
    from tefmanager.service.manager import Manager
    from tests.fakes.store import FakeDatabase
    from tests.simulation.etcd import SimReservations
    from tests.simulation.world import Process

PROMISED = 30.0
"""Seconds for which a manager may be silent about an outage."""

FOUND = 12.0
"""Seconds that it may take to notice one: a server that became silent."""

WHILE_LEADING = ("consumer", "probe", "etcd")
"""What only the active manager needs: each leadership notices its outages anew."""

Away: TypeAlias = tuple[str, str, object]
"""A process, what it has to do without, and its leadership if only the active manager needs that."""

SLACK = 3.0
"""Seconds between two checks by the manager, and between two of ours."""


class Silence:
    """Checks every few seconds, and after each mending: what breaks again is another outage.

    Args:
        hangs: tells whether a service accepts requests without answering.
        managers: all managers, including later ones.
    """

    def __init__(
        self,
        observer: Observer,
        broker: Broker,
        database: FakeDatabase,
        hangs: Callable[[str], bool],
        managers: Sequence[tuple[Process, Manager, SimReservations]],
    ) -> None:
        self._observer = observer
        self._broker = broker
        self._database = database
        self._hangs = hangs
        self._managers = managers
        self._since: dict[Away, float] = {}
        self._told: dict[tuple[str, str], float] = {}

    def heard(self, process: Process, line: LoggedEvent) -> None:
        """A manager logs what it waits for."""
        if line.type.name == "WAITING_FOR":
            service = str(line.values[0]).partition(" ")[0].rstrip(":")
            self._told[process.name, service] = process.world.time

    def mended(self) -> None:
        """Something works again: a manager that has it need not report it any more."""
        away = self._all_away()
        self._since = {each: since for each, since in self._since.items() if each in away}

    def look(self, time: float) -> None:
        """Find managers that have had to do without something and have not said so lately."""
        self._since = {each: self._since.get(each, time) for each in self._all_away()}
        for (process, service, _), since in self._since.items():
            last = max(self._told.get((process, service), 0.0), since + FOUND)
            if time - last > PROMISED + SLACK:
                self._observer.object(f"{process} says nothing of {service}, away for {time - since:.0f} s")

    def _all_away(self) -> Collection[Away]:
        return [
            (process.name, service, manager.core if service in WHILE_LEADING else None)
            for process, manager, reservations in self._managers
            if process.alive and not process.frozen
            for service in self._away(process, manager, reservations)
        ]

    def _away(self, process: Process, manager: Manager, reservations: SimReservations) -> Collection[str]:
        leads, found = manager.core is not None, set[str]()
        full = self._database.full is not None and leads  # without writing, a manager can't notice it
        there = full or self._database.blocker("") is None
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
