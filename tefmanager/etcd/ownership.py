"""Keeps the sign of life beside the lock keys, and detects other users of the lock keys."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from msgspec import Struct
from twisted.logger import Logger

from tefmanager.core.model.identity import Life
from tefmanager.etcd.owner import Keys, Sign, sign, signs, taken
from tefmanager.etcd.refusals import NotLetIn, RequestRefused
from tefmanager.interfaces.etcd import ReservationsLost
from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent

TELL_EVERY = 30.0
"""Seconds until the same line is logged again."""

_TRIES = 4
"""How often the keys are read again when somebody else changes them at the same moment."""


class Owner(Struct, frozen=True):
    """The manager that uses the lock keys.

    Attributes:
        life: its identity.
        machine: the host that it runs on.
        ttl: seconds after which its sign of life expires unless it is renewed.
        tell: is called with what people need to know, repeatedly while the problem lasts.
    """

    life: Life
    machine: str
    ttl: int
    tell: Callable[[LoggedEvent], None] = lambda line: None


class OwnerKeys(Protocol):
    """Access to the two keys through one of Etcd's APIs. Every method may raise `ReservationsLost`."""

    folder: str

    async def read(self) -> Keys:
        """Return both keys."""

    async def write(self, found: Keys, grid: str, alive: str, ttl: int) -> Keys | None:
        """Write both keys if they are still as found, else return None. ``ttl``: seconds for ``alive``."""

    async def leave(self, found: Keys) -> None:
        """Delete ``alive`` if it is still as found."""

    async def forget(self, found: Keys) -> bool:
        """Delete ``grid`` if it is as found and there is no ``alive``; tell whether that was so."""


async def forget(keys: OwnerKeys) -> Sign | None:
    """Forget which grid owns the lock keys, so that the next manager may take them.

    If the owner's manager is alive, changes nothing and returns its sign of life.
    """
    for _ in range(_TRIES):
        found = await keys.read()
        if found.alive is not None:
            return sign(found.alive)
        if found.grid is None or await keys.forget(found):
            return None
    raise ReservationsLost(f"other programs keep changing {keys.folder}")


class Ownership:
    """One adapter's right to its lock keys.

    Args:
        owner: the manager; None if anybody may use the lock keys.
        keys: gives access to the two keys.
        clock: reads a clock that continues while this process or its machine is suspended.
        margin: seconds that a write may take.
    """

    _log = Logger()

    def __init__(
        self, owner: Owner | None, keys: OwnerKeys, clock: Callable[[], float], margin: float
    ) -> None:
        self._owner = owner
        self._keys = keys
        self._clock = clock
        self._margin = margin
        self._known: Keys | None = None
        self._until = -inf
        self._told: tuple[LoggedEvent, float] | None = None

    @property
    def holds(self) -> bool:
        """Whether the sign of life lasts until a write that begins now has arrived."""
        return self._owner is None or self._clock() < self._until

    async def hold(self) -> None:
        """Write or renew the sign of life.

        Raises `ReservationsLost`, also if somebody else uses the lock keys; then nothing is written. If we
        lack the right to write it, that is reported, and everything else goes on.
        """
        if self._owner is not None:
            await self._hold(self._owner)

    async def leave(self) -> None:
        """Delete the sign of life, so that nobody has to wait until it expires."""
        known, self._known = self._known, None
        if known is not None and self.holds:
            try:
                await self._keys.leave(known)
            except ReservationsLost as lost:
                self._log.debug("the sign of life was left: {reason}", reason=str(lost))
        self._until = -inf

    async def _hold(self, owner: Owner) -> None:
        known, self._known = self._known, None
        for _ in range(_TRIES):
            asked = self._clock()
            try:
                known = await self._written(owner, known)
            except (NotLetIn, RequestRefused) as refused:
                # The user may lack the right to these keys and have all others.
                self._tell(owner, catalogue.ETCD_UNGUARDED(self._keys.folder, str(refused)))
                known = Keys()
            if known is not None:
                self._known = known if known.alive is not None else None
                self._until = asked + owner.ttl - min(self._margin, owner.ttl / 2)
                return
        raise ReservationsLost(f"other programs keep changing {self._keys.folder}")

    async def _written(self, owner: Owner, known: Keys | None) -> Keys | None:
        if known is None:
            known = await self._keys.read()
            self._check(owner, known)
        written = await self._keys.write(known, *signs(owner.life, owner.machine), owner.ttl)
        self._told = None
        return written

    def _check(self, owner: Owner, keys: Keys) -> None:
        found = taken(owner.life, keys)
        if found is None:
            return
        self._until = -inf
        theirs, ours = found.sign.where, f"database {owner.life.database} on {owner.machine}"
        self._tell(owner, catalogue.ETCD_TAKEN(self._keys.folder, found.rival, theirs, ours))
        raise ReservationsLost(f"{self._keys.folder} is used by {found.rival}: {theirs}; here is {ours}")

    def _tell(self, owner: Owner, line: LoggedEvent) -> None:
        if self._told is None or self._told[0] != line or self._clock() >= self._told[1] + TELL_EVERY:
            self._told = (line, self._clock())
            owner.tell(line)
