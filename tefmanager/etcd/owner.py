"""Pure: which grid owns the lock keys of a name prefix, and which manager may use them.

Two keys below ``managers/<name prefix>``, beside the resources, say this:

- ``grid``: the grid that owns the lock keys, until somebody deliberately hands them over; - ``alive``: the
sign of life of its active manager. Etcd removes it unless it is renewed.

A manager that finds another grid there, or another living manager of its own grid, must not use the lock
keys.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tefmanager.core.model.identity import Life
from tefmanager.etcd.tree import safe

FOLDER = "managers"
GRID = "grid"
ALIVE = "alive"


class Sign(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of either key, as JSON.

    Attributes:
        identity: of the grid.
        life, place: as in `Life`; empty in ``grid``, which lasts longer than they do.
        database, machine: where the manager is, for people.
    """

    identity: str
    life: str = ""
    place: str = ""
    database: str = ""
    machine: str = ""

    @property
    def where(self) -> str:
        """Where the manager is, for people."""
        return f"database {self.database or '?'} on {self.machine or '?'}"


class Found(msgspec.Struct, frozen=True):
    """A key's value, and the revision (v3) or index (v2) at which it was set."""

    value: str
    revision: int


class Keys(msgspec.Struct, frozen=True):
    """Both keys; None for one that does not exist."""

    grid: Found | None = None
    alive: Found | None = None


class Rival(StrEnum):
    """The other user of the lock keys."""

    ALIVE = "another grid, whose manager is alive"
    KNOWN = "another grid, whose manager was the last one here"
    COPY = "this grid by another database or a copy of it, whose manager is alive or was so a moment ago"


class Taken(msgspec.Struct, frozen=True):
    """Why a manager must not use the lock keys: who else does, and that manager's sign."""

    rival: Rival
    sign: Sign


def folder(base: str, prefix: str) -> str:
    """Return the folder of both keys, beside the base of the resources."""
    name = safe(prefix)
    if not name.strip("."):  # v2 would read . and .. as this folder and its parent
        name = "%2E" * len(name) or "%"
    return f"{base.rpartition('/')[0]}/{FOLDER}/{name}"


def signs(life: Life, machine: str) -> tuple[str, str]:
    """Return the values of ``grid`` and ``alive`` for a manager."""
    known = Sign(life.identity, database=life.database, machine=machine)
    alive = msgspec.structs.replace(known, life=life.token, place=life.place)
    return msgspec.json.encode(known).decode(), msgspec.json.encode(alive).decode()


def taken(life: Life, keys: Keys) -> Taken | None:
    """Return who else uses the lock keys, or None if this manager may use them.

    A sign that this database remembers is that of a predecessor, which has lost the database, so nobody
    needs to wait for it. A sign of the same grid that the database does not remember may belong to a living
    manager on a copy of the database.
    """
    alive, known = (None if found is None else sign(found) for found in (keys.alive, keys.grid))
    if alive is not None and alive.identity != life.identity:
        return Taken(Rival.ALIVE, alive)
    if known is not None and known.identity != life.identity:
        return Taken(Rival.KNOWN, known)
    if alive is None or alive.life == life.token:
        return None
    predecessor = alive.life in life.earlier and alive.place == life.place
    return None if predecessor else Taken(Rival.COPY, alive)


def sign(found: Found) -> Sign:
    """Return a key's value as a sign."""
    try:
        return msgspec.json.decode(found.value, type=Sign)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # Not written by a manager.
        return Sign("", database=f"that nobody can tell from {found.value[:100]!r}")
