"""Resources that another program is writing key by key: their earlier states count a little longer.

Programs write the keys of a window one after the other, some milliseconds apart, and some write defaults
first that open the resource. So for a moment after each change, the strictest of all recent states counts.
What was before is not known of everything: the first read, or the one after an outage, may find a window
half-written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tefmanager.core.model.resources import UNLIMITED, Resource

SETTLING = 0.75
"""Seconds after the last change of a resource's windows during which earlier states still count."""

MOST = 16
"""How many earlier states of a resource are kept."""


class Changing:
    """The resources that were just created, or whose windows have just changed.

    Args:
        clock: measures time.
        tell: is called with a resource's name when its windows have settled.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[Iterable[str]], object]) -> None:
        self._clock = clock
        self._tell = tell
        self._earlier: dict[str, tuple[Resource, ...]] = {}
        self._timers: dict[str, IDelayedCall] = {}
        self._made: dict[str, float] = {}

    def changed(self, before: Resource | None, after: Resource | None) -> None:
        """Take in that a resource has changed."""
        if after is None:
            return
        if before is None:
            self._made[after.name] = self._clock.seconds() + SETTLING
        elif (before.windows, before.closed) != (after.windows, after.closed):
            self._keep(after.name, before)
        if after.limit == UNLIMITED and self._is_new(after.name):
            # This may be a default, with the limit still to come.
            self._keep(after.name, replace(after, limit=0))

    def found(self, before: Resource | None, after: Resource | None) -> None:
        """Take in what a read found, where nothing is known of the changes that led to it.

        Another program may be in the middle of them. So a resource with windows that were not known, or a
        new one without a limit, is closed for a while.
        """
        if after is None or (before is not None and before.windows == after.windows):
            return
        if after.windows or after.limit == UNLIMITED:
            self._keep(after.name, replace(after, available=False))

    def _is_new(self, name: str) -> bool:
        """Tell whether a resource was just created, so that its other keys may still be missing."""
        now = self._clock.seconds()
        self._made = {each: until for each, until in self._made.items() if until > now}
        return name in self._made

    def strictest(self, resource: Resource) -> Resource:
        """Return a resource together with its recent states."""
        earlier = self._earlier.get(resource.name, ())
        return resource if earlier == resource.earlier else replace(resource, earlier=earlier)

    def stop(self) -> None:
        """Forget everything."""
        self._earlier.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _keep(self, name: str, state: Resource) -> None:
        rules = replace(state, held=0, uncounted=0, faults=(), earlier=())
        others = [each for each in self._earlier.get(name, ()) if each != rules]
        self._earlier[name] = (*others[-(MOST - 1) :], rules)
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._clock.callLater(SETTLING, self._settled, name)

    def _settled(self, name: str) -> None:
        del self._timers[name], self._earlier[name]
        self._tell([name])
