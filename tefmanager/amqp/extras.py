"""Declares what the manager needs besides its queue: each thing separately, until all of them exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from txamqp.client import Closed

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.connection import OnMissing, ignore_missing
from tefmanager.amqp.declare import need_binding, need_queue, need_topic
from tefmanager.amqp.delegate import why
from tefmanager.amqp.lookups import Lookups, detached
from tefmanager.amqp.topology import Topology
from tefmanager.support.backoff import OPTIONAL, Backoff

PATIENCE = 2.0
"""Seconds for which a starting consumer waits for the declarations."""

LOOKUPS = 2
"""The number of the channel on which they are declared."""


class Extras:
    """Declares the manager's other queues, and its bindings to exchanges of other programs.

    Tasks that are sent straight to the manager's queue need none of them. So if the broker refuses one,
    that is reported and tried again, at least every half minute, and the consumer goes on.
    """

    _log = Logger()

    def __init__(self, clock: Any, topology: Topology, on_missing: OnMissing = ignore_missing) -> None:
        self._clock = clock
        self._on_missing = on_missing
        self._lookups = Lookups()
        queue = topology.in_queue
        self._needs: dict[str, Callable[[], Awaitable[None]]] = {
            f"queue {name}": partial(need_queue, self._lookups, name)
            for name in topology.queues
            if name != queue
        }
        self._needs[f"exchange {topology.events_exchange}"] = partial(
            need_topic, self._lookups, topology.events_exchange
        )
        self._needs |= {
            f"binding to exchange {exchange} with key {key}": partial(
                need_binding, self._lookups, queue, exchange, key
            )
            for exchange, key in topology.bindings
        }
        self._said: dict[str, str] = {}
        self._pauses = Backoff(clock, *OPTIONAL)
        self._again: IDelayedCall | None = None

    async def declare(self, protocol: AmqpProtocol, most_channels: int) -> None:
        """Declare all of them on a new connection; return when that is done, or after `PATIENCE`."""
        self.stop()
        self._pauses.reset()
        self._lookups.use(protocol, LOOKUPS if most_channels >= LOOKUPS else 0)
        try:
            await self._declare(protocol).addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            self._log.warn("the broker is slow to declare queues and bindings; consuming begins")

    def stop(self) -> None:
        """Stop trying."""
        again, self._again = self._again, None
        if again is not None and again.active():
            again.cancel()

    def _declare(self, protocol: AmqpProtocol) -> Deferred[None]:
        return detached(self._declare_all(protocol))

    async def _declare_all(self, protocol: AmqpProtocol) -> None:
        missing = [what for what in self._needs if not await self._declared(what, protocol)]
        if missing and protocol.usable:
            self._again = self._clock.callLater(self._pauses.next(), self._try_again, protocol)

    def _try_again(self, protocol: AmqpProtocol) -> None:
        if protocol.usable:
            self._declare(protocol).addErrback(self._unexpected)

    def _unexpected(self, failure: Any) -> None:
        self._log.failure("queues and bindings can't be declared", failure)

    async def _declared(self, what: str, protocol: AmqpProtocol) -> bool:
        try:
            await self._needs[what]()
        except Closed as error:
            # A broken connection is reported elsewhere, and says nothing about what is missing.
            if protocol.usable:
                self._say(what, why(error))
            return False
        self._on_missing(what, None)
        if self._said.pop(what, None) is not None:
            self._log.info("{what}: there now", what=what)
        return True

    def _say(self, what: str, why: str) -> None:
        self._on_missing(what, why)
        if self._said.get(what) != why:
            self._said[what] = why
            self._log.warn(
                "{what} is missing; it is tried again at least every {pause:g} s: {why}",
                what=what,
                why=why,
                pause=OPTIONAL[1],
            )
