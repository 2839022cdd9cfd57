"""What a fault is."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.chaos.grid import SERVICES, Grid

Doing = Coroutine[Deferred[Any], Any, None]


@dataclass(frozen=True)
class Fault:
    """One way to break something.

    Attributes:
        name: for people.
        weight: how often it is chosen, against the others.
        targets: what it can be done to now: labels of things no two faults may have at once.
        strike: breaks it and mends it; done when all is mended.
    """

    name: str
    weight: float
    targets: Callable[[Grid], list[str]]
    strike: Callable[[Grid, str, random.Random], Doing]


async def rest(seconds: float) -> None:
    """Wait."""
    await deferLater(reactor, seconds)


def up(grid: Grid) -> list[str]:
    """Return the services that run, frozen or not."""
    return [name for name in SERVICES if grid.server(name).running]


def service(name: str) -> Callable[[Grid], list[str]]:
    """Return what finds this service where it runs."""
    return lambda grid: [name] if name in up(grid) else []
