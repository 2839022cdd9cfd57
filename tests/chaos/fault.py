"""The definition of a fault."""

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
        weight: how often it is chosen, compared with the others.
        targets: returns its present targets: labels of things that no two faults may break at once.
        strike: breaks the target and mends it; returns when all is mended.
    """

    name: str
    weight: float
    targets: Callable[[Grid], list[str]]
    strike: Callable[[Grid, str, random.Random], Doing]


async def rest(seconds: float) -> None:
    """Wait."""
    await deferLater(reactor, seconds)


def up(grid: Grid) -> list[str]:
    """Return the running services, frozen or not."""
    return [name for name in SERVICES if grid.server(name).running]


def service(name: str) -> Callable[[Grid], list[str]]:
    """Return a function that returns this service if it is running."""
    return lambda grid: [name] if name in up(grid) else []
