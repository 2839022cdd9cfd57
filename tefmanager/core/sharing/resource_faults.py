"""Logs which entries of resources are invalid, unless they are only half written."""

from __future__ import annotations

from collections.abc import Mapping

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment
from tefmanager.core.sharing.pool import Pool
from tefmanager.protocol import catalogue

GRACE = 1.0
"""Seconds that a program has for writing all keys of a window: v2 can write only one key at a time."""


class ResourceFaults:
    """Logs each fault of a resource once, if it still exists after the grace period.

    Args:
        pool: knows all resources as last seen.
    """

    def __init__(self, ledger: Ledger, timers: Timers, pool: Pool) -> None:
        self._ledger = ledger
        self._timers = timers
        self._pool = pool
        self._told: dict[str, frozenset[str]] = {}
        self._suspects: set[str] = set()

    def look(self, resources: Mapping[str, Resource | None], now: Moment) -> None:
        """Check resources that have changed."""
        for name, resource in resources.items():
            faults = _faults(resource)
            told = (
                self._told.pop(name, frozenset()) & faults
            )  # if the resource comes back, its fault is logged again
            if told:
                self._told[name] = told
            if faults - told:
                self._suspect(name, now)

    def _suspect(self, name: str, now: Moment) -> None:
        if not self._suspects:
            self._timers.at(now.monotonic + GRACE, self._tell)
        self._suspects.add(name)

    def _tell(self, now: Moment) -> None:
        suspects, self._suspects = self._suspects, set()
        for name in sorted(suspects):
            faults = _faults(self._pool.seen.get(name))
            for fault in sorted(faults - self._told.get(name, frozenset())):
                self._ledger.log(catalogue.RESOURCE_INVALID(name, fault))
            if faults:
                self._told[name] = faults


def _faults(resource: Resource | None) -> frozenset[str]:
    return frozenset() if resource is None else frozenset(resource.faults)
