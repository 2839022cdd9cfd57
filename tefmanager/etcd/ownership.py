"""Keeping the sign of life beside the lock keys, and finding out who else does."""

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
"""Seconds between two lines that say the same."""

_TRIES = 4
"""How often the keys are read again because somebody else changes them at the same moment."""


class Owner(Struct, frozen=True):
    """Who uses the lock keys, and how it keeps them.

    Attributes:
        life: who it is.
        machine: where it runs.
        ttl: seconds after which its sign of life goes, unless it is renewed.
        tell: is called with what people have to know, now and again while it is so.
    """

    life: Life
    machine: str
    ttl: int
    tell: Callable[[LoggedEvent], None] = lambda line: None


class OwnerKeys(Protocol):
    """The two keys in one of Etcd's APIs. Everything raises `ReservationsLost`."""

    folder: str

    async def read(self) -> Keys:
        """Return them as they are."""

    async def write(self, found: Keys, grid: str, alive: str, ttl: int) -> Keys | None:
        """Write both where they still are as found, ``alive`` for so many seconds; None: they are not."""

    async def leave(self, found: Keys) -> None:
        """Delete ``alive`` where it is as found."""

    async def forget(self, found: Keys) -> bool:
        """Delete ``grid`` where it is as found and no ``alive`` is there; tell whether that was so."""


async def forget(keys: OwnerKeys) -> Sign | None:
    """Forget whose the lock keys were: the next manager that comes may have them.

    Returns the sign of life of the one that has them still, if there is one; nothing is done then.
    """
    for _ in range(_TRIES):
        found = await keys.read()
        if found.alive is not None:
            return sign(found.alive)
        if found.grid is None or await keys.forget(found):
            return None
    raise ReservationsLost(f"others change {keys.folder} all the time")


class Ownership:
    """One adapter's right to its lock keys.

    Args:
        owner: who; None: anybody may use them.
        keys: where.
        clock: reads a clock that goes on while this process, or its machine, is stopped.
        margin: seconds that a write may be under way.
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
        """Whether the sign of life is there until what is written now has arrived."""
        return self._owner is None or self._clock() < self._until

    async def hold(self) -> None:
        """Write the sign of life, or renew it.

        Raises `ReservationsLost`, also where somebody else uses the lock keys; nothing is written then.
        Where Etcd does not let us write it, that is told, and all else goes on.
        """
        if self._owner is not None:
            await self._hold(self._owner)

    async def leave(self) -> None:
        """Take the sign of life away, so that nobody has to wait until it runs out."""
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
                # The right to these keys is one that can be missing while all others are there.
                self._tell(owner, catalogue.ETCD_UNGUARDED(self._keys.folder, str(refused)))
                known = Keys()
            if known is not None:
                self._known = known if known.alive is not None else None
                self._until = asked + owner.ttl - min(self._margin, owner.ttl / 2)
                return
        raise ReservationsLost(f"others change {self._keys.folder} all the time")

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
