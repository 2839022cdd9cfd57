"""Messages that are acknowledged later than their turn: when what they ask for has been done."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tefmanager.engine.reception import fingerprint
from tefmanager.interfaces.amqp import Delivery

REMEMBERED = 1000
"""How many messages are remembered that are done or under way and will be redelivered."""


class _Held:
    """A message, and its last delivery, which must be acknowledged when the message is done."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.done = False


class Unacknowledged:
    """Acknowledges each message when it is done, and lets nothing be done twice.

    A message that is redelivered because the connection broke is recognised: it is under way, or already
    done.

    Args:
        acknowledge: acknowledges deliveries, by their session and tags.
    """

    def __init__(self, acknowledge: Callable[[int, Sequence[int]], None]) -> None:
        self._acknowledge = acknowledge
        self._lost = -1
        self._under_way: list[_Held] = []
        self._orphans: OrderedDict[bytes, deque[_Held]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._under_way)

    def session_lost(self, session: int) -> None:
        """Note that everything a session delivered will be redelivered."""
        self._lost = session
        for held in self._under_way:
            if held.delivery.session <= session:
                self._adopt_later(held)

    def adopts(self, delivery: Delivery) -> bool:
        """Tell whether this is a redelivery of a known message, for which nothing must be done again."""
        waiting = self._orphans.get(fingerprint(delivery.body)) if delivery.redelivered else None
        if not waiting:
            return False
        held = waiting.popleft()
        held.delivery = delivery
        if held.done:
            self._settle(held)
        return True

    @contextmanager
    def hold(self, delivery: Delivery) -> Iterator[None]:
        """Acknowledge a message at the end of a block, unless the block fails."""
        held = _Held(delivery)
        self._under_way.append(held)
        try:
            yield
            held.done = True
        finally:
            self._under_way.remove(held)
        self._settle(held)

    def _settle(self, held: _Held) -> None:
        if held.delivery.session > self._lost:
            self._acknowledge(held.delivery.session, [held.delivery.tag])
        else:
            self._adopt_later(held)

    def _adopt_later(self, held: _Held) -> None:
        waiting = self._orphans.setdefault(fingerprint(held.delivery.body), deque())
        if held not in waiting:
            waiting.append(held)
        if len(self._orphans) > REMEMBERED:
            self._orphans.popitem(last=False)
