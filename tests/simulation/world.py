"""One seeded scheduler and clock for everything in a simulation, and the processes that live on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from tefmanager.core.values import Moment

START = 1_800_000_000.0
"""Unix time at which every simulation begins."""


GRAVES: list[object] = []
"""What the dead were about to do. If Python tidied it up, their coroutines would end as they never did."""


class World:
    """Time and chance. The same seed gives the same history."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        random.seed(seed)  # for the jitter of pauses
        self.clock = Clock()

    @property
    def time(self) -> float:
        """Simulated seconds since the beginning."""
        return float(self.clock.seconds())

    def later(self, least: float, most: float, call: Callable[..., object], *args: Any) -> IDelayedCall:
        """Let something happen after a while, somewhere between two delays in seconds."""
        return self.clock.callLater(self.chance.uniform(least, most), call, *args)

    def run(self, seconds: float) -> None:
        """Let everything happen that happens within some seconds."""
        until = self.time + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= until:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.time))
        self.clock.advance(until - self.time)


@implementer(IDelayedCall)
class Timer:
    """A timer of a process. One of a dead process never fires, and may still be cancelled."""

    def __init__(self, inner: IDelayedCall, process: Process) -> None:
        self._inner = inner
        self._process = process
        self._done = False

    def fired(self) -> None:
        """It has called what it was set for."""
        self._done = True

    def active(self) -> bool:
        """Whether it may still fire."""
        return not self._done

    def cancel(self) -> None:
        """Never fire."""
        self._done = True
        if self._inner.active():
            self._inner.cancel()

    def getTime(self) -> float:
        """When it is due."""
        return float(self._inner.getTime())

    def reset(self, secondsFromNow: float) -> None:
        """Set it anew."""
        self._inner.reset(secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Let it fire later."""
        self._inner.delay(secondsLater)


@implementer(IReactorTime)
class Process:
    """A process: it can be killed and frozen, and everything that enters it passes through here.

    It is its own clock: its timers die with it.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self._waiting: list[Callable[[], object]] = []
        self._overdue: list[Callable[[], object]] = []
        self._timers: set[Timer] = set()
        self._last: dict[object, float] = {}
        self.deaths: list[Callable[[], None]] = []

    def enter(self, call: Callable[..., object], *args: Any) -> None:
        """Let the process do something, when it can."""
        if not self.alive:
            GRAVES.append((call, args))
        elif self.frozen:
            self._waiting.append(lambda: call(*args))
        else:
            call(*args)

    def later(self, least: float, most: float, call: Callable[..., object], *args: Any) -> None:
        """Let something enter the process after a while."""
        self.world.later(least, most, self.enter, call, *args)

    def in_order(
        self, line: object, least: float, most: float, call: Callable[..., object], *args: Any
    ) -> None:
        """The same, but never before what was sent on this line earlier."""
        at = max(self.world.time + self.world.chance.uniform(least, most), self._last.get(line, 0.0))
        self._last[line] = at
        self.world.clock.callLater(at - self.world.time, self.enter, call, *args)

    def pause(self, least: float, most: float) -> Deferred[None]:
        """Return a Deferred that fires in this process after a while."""
        waiting: Deferred[None] = Deferred(lambda _: None)

        def fire() -> None:
            if not waiting.called:
                waiting.callback(None)

        self.later(least, most, fire)
        return waiting

    # --- IReactorTime ---

    def seconds(self) -> float:
        """The world's time."""
        return self.world.time

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> Timer:
        """Set a timer."""

        def fire() -> None:
            if timer.active():
                self._timers.discard(timer)
                timer.fired()
                callable(*args, **kwargs)

        def due() -> None:
            if self.frozen:
                self._overdue.append(fire)
            else:
                self.enter(fire)

        timer = Timer(self.world.clock.callLater(delay, due), self)
        self._timers.add(timer)
        return timer

    def getDelayedCalls(self) -> list[Timer]:
        """Return the timers that are set."""
        return [timer for timer in self._timers if timer.active()]

    def clocks(self) -> Moment:
        """Read the clocks."""
        wall = START + self.world.time
        return Moment(self.world.time, wall, datetime.fromtimestamp(wall, UTC).replace(tzinfo=None))

    # --- fate ---

    def kill(self) -> None:
        """End the process at once: nothing in it happens any more."""
        self.alive = False
        GRAVES.append((self, self._waiting, self._overdue, list(self._timers)))
        for death in self.deaths:
            death()

    def freeze(self) -> None:
        """Stop it, as a sleeping machine would."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on: first the timers that became due, as the reactor does, then what came."""
        self.frozen = False
        overdue, self._overdue = self._overdue, []
        waiting, self._waiting = self._waiting, []
        for call in (*overdue, *waiting):
            self.enter(call)
