"""Windows that are being written, key by key: what was before counts a little longer.

Programs write the keys of a window one after the other, some milliseconds apart, and some write defaults
first that open the resource. So for a moment after each change the strictest counts of all that was so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tefmanager.core.model.resources import UNLIMITED, Resource

SETTLING = 0.75
"""Seconds after the last change of a resource's windows, for which earlier ones count as well."""

MOST = 16
"""Earlier states of a resource that are kept."""


class Changing:
    """The resources whose windows have just changed, or that have just been made.

    Args:
        clock: measures time.
        tell: is called with the name of a resource when its windows have settled.
    """

    def __init__(self, clock: IReactorTime, tell: Callable[[Iterable[str]], object]) -> None:
        self._clock = clock
        self._tell = tell
        self._earlier: dict[str, tuple[Resource, ...]] = {}
        self._timers: dict[str, IDelayedCall] = {}
        self._made: dict[str, float] = {}

    def changed(self, before: Resource | None, after: Resource | None) -> None:
        """Take in that a resource is another than it was."""
        if after is None:
            return
        if before is None:
            self._made[after.name] = self._clock.seconds() + SETTLING
        elif (before.windows, before.closed) != (after.windows, after.closed):
            self._keep(after.name, before)
        if after.limit == UNLIMITED and self._is_new(after.name):
            # It may be a default, and the limit is to come.
            self._keep(after.name, replace(after, limit=0))

    def _is_new(self, name: str) -> bool:
        """Tell whether a resource has just been made: no key of it says what the others will."""
        now = self._clock.seconds()
        self._made = {each: until for each, until in self._made.items() if until > now}
        return name in self._made

    def strictest(self, resource: Resource) -> Resource:
        """Return a resource together with what it was a moment ago."""
        earlier = self._earlier.get(resource.name, ())
        return resource if earlier == resource.earlier else replace(resource, earlier=earlier)

    def stop(self) -> None:
        """Forget all."""
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
