"""One seeded scheduler and clock for everything in a simulation, and the processes that run on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from tefmanager.core.model.values import Moment
from tests.simulation.timeline import Timeline

START = 1_800_000_000.0
"""The unix time at which every simulation begins."""


GRAVES: list[object] = []
"""Pending coroutines of dead processes. If Python collected them, they would run their cleanup code."""

NEAR = (0.0005, 0.005)
"""Least and most seconds that anything takes between a process and a service if both are well."""


class Fate(Enum):
    """What becomes of a request."""

    WELL = "it is carried out and answered"
    UNHEARD = "the connection breaks before it is carried out"
    UNANSWERED = "it is carried out, and the connection breaks before the answer"


class World:
    """Time and chance. The same seed gives the same history.

    Attributes:
        delays: least and most seconds to and from a service, if not `NEAR`.
        wrong: how many seconds all wall clocks are ahead.
        mended: called whenever something that was away, or did not answer, works again.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        random.seed(seed)  # for the jitter of pauses
        self.clock = Timeline()
        self.delays: dict[str, tuple[float, float]] = {}
        self.wrong = 0.0
        self.mended: Callable[[], object] = lambda: None
        self._last: dict[object, float] = {}
        self._silent: dict[str, list[Callable[[], object]]] = {}

    @property
    def time(self) -> float:
        """Simulated seconds since the beginning."""
        return self.clock.seconds()

    def later(self, least: float, most: float, call: Callable[..., object], *args: Any) -> IDelayedCall:
        """Schedule a call after a random delay between two bounds in seconds."""
        return self.clock.callLater(self.chance.uniform(least, most), call, *args)

    def way(self, service: str) -> tuple[float, float]:
        """Return the least and most seconds that a message to or from a service takes."""
        return self.delays.get(service, NEAR)

    def reach(self, service: str, call: Callable[..., object], *args: Any) -> None:
        """Let a service do something; one that hangs does it when it continues."""
        if service in self._silent:
            self._silent[service].append(lambda: call(*args))
        else:
            call(*args)

    def silence(self, service: str) -> None:
        """Let a service hang: its connections stay open, and it answers nothing."""
        self._silent.setdefault(service, [])

    def hangs(self, service: str) -> bool:
        """Tell whether a service hangs."""
        return service in self._silent

    def speak(self, service: str) -> None:
        """Let a service continue with all requests that it received meanwhile."""
        calls = self._silent.pop(service, [])
        self.mended()
        for call in calls:
            call()

    def in_order(
        self, line: object, least: float, most: float, call: Callable[..., object], *args: Any
    ) -> None:
        """Schedule a call after a random delay, but not before anything sent earlier on this line."""
        at = max(self.time + self.chance.uniform(least, most), self._last.get(line, 0.0))
        self._last[line] = at
        self.clock.callLater(at - self.time, call, *args)

    def run(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.clock.run(self.time + seconds)


@implementer(IDelayedCall)
class Timer:
    """A timer of a process. A timer of a dead process never fires, and may still be cancelled."""

    def __init__(self, inner: IDelayedCall, process: Process) -> None:
        self._inner = inner
        self._process = process
        self._done = False

    def fired(self) -> None:
        """Note that it has fired."""
        self._done = True

    def active(self) -> bool:
        """Whether it may still fire."""
        return not self._done

    def cancel(self) -> None:
        """Cancel it."""
        self._done = True
        if self._inner.active():
            self._inner.cancel()

    def getTime(self) -> float:
        """Return when it is due."""
        return float(self._inner.getTime())

    def reset(self, secondsFromNow: float) -> None:
        """Set it to another time."""
        self._inner.reset(secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Set it to a later time."""
        self._inner.delay(secondsLater)


@implementer(IReactorTime)
class Process:
    """A process: it can be killed, frozen and cut off, and everything to and from the world passes it.

    It is its own clock: its timers die with it.

    Attributes:
        steps: how often it has sent something to a service, or received something. Between two steps nobody
            outside can tell what it does, so it is killed at each of them and never in between.
        deaths: called for its connections when it dies.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.cut = False
        self.steps = 0
        self._turn: tuple[int, Callable[[], object]] | None = None
        self._trouble: tuple[int, Fate] | None = None
        self._waiting: list[tuple[object, Callable[[], object]]] = []
        self._unsent: list[Callable[[], object]] = []
        self._overdue: list[Callable[[], object]] = []
        self._timers: set[Timer] = set()
        self.deaths: list[Callable[[], object]] = []

    # --- between it and the world ---

    def step(self) -> None:
        """Take a step; the caller must check `alive` afterwards."""
        self.steps += 1
        if self.alive and self._turn is not None and self.steps >= self._turn[0]:
            (_, turn), self._turn = self._turn, None
            turn()

    def fate(self) -> Fate:
        """Take a step that is a request, and return what becomes of it."""
        self.step()
        if self._trouble is not None and self.steps >= self._trouble[0]:
            fate, self._trouble = self._trouble[1], None
            return fate
        return Fate.WELL

    async def ask(self) -> Fate:
        """The same; in a dead process this never returns."""
        fate = self.fate()
        if not self.alive:
            await self.never()
        return fate

    async def never(self) -> None:
        """Wait for ever."""
        never: Deferred[None] = Deferred()
        GRAVES.append(never)
        await never

    def send(self, line: object, way: tuple[float, float], call: Callable[..., object], *args: Any) -> None:
        """Let something leave the process: it happens in the world even if the process is dead by then."""
        if self.cut:
            self._unsent.append(lambda: self.world.in_order((self, line), *way, call, *args))
        else:
            self.world.in_order((self, line), *way, call, *args)

    def hear(self, line: object, way: tuple[float, float], call: Callable[..., object], *args: Any) -> None:
        """Let something reach the process, but not before anything sent earlier on this line."""
        self.world.in_order((self, line), *way, self.enter, line, call, *args)

    def later(self, least: float, most: float, call: Callable[..., object], *args: Any) -> None:
        """Let the process do something by itself after a random delay."""
        self.callLater(self.world.chance.uniform(least, most), call, *args)

    def enter(self, line: object, call: Callable[..., object], *args: Any) -> None:
        """Let the process receive something as soon as it can."""
        if not self.alive:
            GRAVES.append((call, args))
        elif self.frozen or self.cut:
            self._waiting.append((line, lambda: self._enter(call, *args)))
        else:
            self._enter(call, *args)

    def _enter(self, call: Callable[..., object], *args: Any) -> None:
        if self.alive:
            self.step()
        if self.alive:
            call(*args)
        else:
            GRAVES.append((call, args))

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
            if not self.alive:
                GRAVES.append(fire)
            elif self.frozen:
                self._overdue.append(fire)
            else:
                fire()

        timer = Timer(self.world.clock.callLater(delay, due), self)
        self._timers.add(timer)
        return timer

    def getDelayedCalls(self) -> list[Timer]:
        """Return the pending timers."""
        return [timer for timer in self._timers if timer.active()]

    def clocks(self) -> Moment:
        """Read the clocks."""
        wall = START + self.world.time + self.world.wrong
        return Moment(self.world.time, wall, datetime.fromtimestamp(wall, UTC).replace(tzinfo=None))

    # --- fate ---

    def kill(self) -> None:
        """End the process at once: nothing in it happens any more."""
        self.alive = False
        GRAVES.append((self, self._waiting, self._overdue, list(self._timers)))
        for death in self.deaths:
            death()

    def after(self, steps: int, turn: Callable[[], object]) -> None:
        """Call a function at a later step of the process."""
        self._turn = (self.steps + steps, turn)

    def disturb_after(self, steps: int, fate: Fate) -> None:
        """Let a later request fail: the one at that step, or the first one after it."""
        self._trouble = (self.steps + steps, fate)

    def be_well(self) -> None:
        """Cancel all faults that are planned for the process."""
        self._turn = self._trouble = None

    def freeze(self) -> None:
        """Suspend it, as SIGSTOP or a sleeping machine would."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it continue: everything that has arrived, and all timers that became due, happen at once."""
        self.frozen = False
        self._catch_up()

    def cut_off(self) -> None:
        """Take its network away; it continues to run."""
        self.cut = True

    def reconnect(self) -> None:
        """Give it its network back: what was sent in either direction arrives."""
        self.cut = False
        self.world.mended()
        unsent, self._unsent = self._unsent, []
        for send in unsent:
            send()
        if not self.frozen:
            self._catch_up()

    def _catch_up(self) -> None:
        """Each connection keeps its order, and so do the timers; among them there is no order."""
        lines: dict[object, list[Callable[[], object]]] = {}
        if not self.cut:
            heard, self._waiting = self._waiting, []
            for line, call in heard:
                lines.setdefault(line, []).append(call)
        lines[Timer], self._overdue = self._overdue, []
        rest = [calls[::-1] for calls in lines.values() if calls]
        while rest:
            calls = self.world.chance.choice(rest)
            if self.alive:
                calls.pop()()
            else:
                GRAVES.append(calls.pop())
            rest = [calls for calls in rest if calls]
