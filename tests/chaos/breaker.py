"""Chooses what is broken next."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred

from tests.chaos.fault import Fault, rest
from tests.chaos.faults import FAULTS
from tests.chaos.grid import SERVICES, Grid
from tests.chaos.journal import Journal

_AGAIN = 0.05
"""Seconds until targets are looked for again if none of the pending faults has one."""

AHEAD = 4
"""How many faults may be pending: if the target of one is already broken, others go first."""


def drawn(seed: int, only: Sequence[str] = ()) -> Iterator[Fault]:
    """Yield faults for ever; the seed alone decides which. ``only``: names contain one of these texts."""
    rng = random.Random(seed)
    faults = [fault for fault in FAULTS if not only or any(text in fault.name for text in only)]
    while True:
        yield from rng.choices(faults, [fault.weight for fault in faults])


class Breaker:
    """Strikes faults at random until their number is reached.

    Args:
        grid: the grid that is broken.
        draw: the faults, in the order in which they are due.
        rng: decides which targets are struck, and for how long.
        journal: records what was broken and when.

    Attributes:
        under_way: what is broken now, by target; a text for people.
        counts: how often each fault was struck, by its text.
    """

    def __init__(self, grid: Grid, draw: Iterator[Fault], rng: random.Random, journal: Journal) -> None:
        self._grid = grid
        self._rng = rng
        self._drawn = draw
        self._journal = journal
        self._due: list[Fault] = []
        self.under_way: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self._doing: list[Deferred[None]] = []

    @property
    def struck(self) -> int:
        """How many faults were struck."""
        return sum(self.counts.values())

    async def strike(self, faults: int, seconds: float) -> None:
        """Strike so many faults in about so many seconds, and return when everything is mended."""
        while self.struck < faults:
            await rest(self._rng.expovariate(faults / seconds))
            while not self._struck_once():
                await rest(_AGAIN)
        for each in self._doing:
            await each

    def _struck_once(self) -> bool:
        """Strike the oldest pending fault that has a target now; return whether there was one."""
        if len(self._due) < AHEAD:
            self._due.append(next(self._drawn))
        for fault in self._due:
            targets = [each for each in fault.targets(self._grid) if each not in self.under_way]
            if targets:
                self._due.remove(fault)
                target = self._rng.choice(targets)
                self._doing.append(Deferred.fromCoroutine(self._break(fault, target)))
                return True
        return False

    async def _break(self, fault: Fault, target: str) -> None:
        what = fault.name if target not in SERVICES else f"{fault.name} {target}"
        self.counts[what] = self.counts.get(what, 0) + 1
        self.under_way[target] = fault.name
        self._journal.note("broken", what=fault.name, target=target)
        try:
            with suppress(ProcessLookupError):  # the target has ended by itself
                await fault.strike(self._grid, target, self._rng)
        finally:
            del self.under_way[target]
            self._journal.note("mended", what=fault.name, target=target)
