"""Pure: whose the lock keys of a name prefix are, by the two keys that tell it, and who may use them.

Beside the resources, below ``managers/<name prefix>``, stand

- ``grid``: the grid whose lock keys these are, for as long as nobody takes them over on purpose;
- ``alive``: the sign of life of its active manager, which Etcd removes when it is not renewed.

Whoever finds another grid there, or another living manager of its own, uses neither.
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
        life, place: of `Life`; empty in ``grid``, which outlives them.
        database, machine: where it is, for people.
    """

    identity: str
    life: str = ""
    place: str = ""
    database: str = ""
    machine: str = ""

    @property
    def where(self) -> str:
        """Return it for people."""
        return f"database {self.database or '?'} on {self.machine or '?'}"


class Found(msgspec.Struct, frozen=True):
    """A key's value, and the revision (v3) or index (v2) at which it became so."""

    value: str
    revision: int


class Keys(msgspec.Struct, frozen=True):
    """Both keys, each None where it is not there."""

    grid: Found | None = None
    alive: Found | None = None


class Rival(StrEnum):
    """Who else uses the lock keys."""

    ALIVE = "another grid, whose manager is alive"
    KNOWN = "another grid, whose manager was the last one here"
    COPY = "this grid by another database or a copy of it, whose manager is alive or was so a moment ago"


class Taken(msgspec.Struct, frozen=True):
    """Why a manager must not use the lock keys: who does, and what it says of itself."""

    rival: Rival
    sign: Sign


def folder(base: str, prefix: str) -> str:
    """Return what both keys are below, beside the base of the resources."""
    name = safe(prefix)
    if not name.strip("."):  # v2 would take these for the folder itself or the one above
        name = "%2E" * len(name) or "%"
    return f"{base.rpartition('/')[0]}/{FOLDER}/{name}"


def signs(life: Life, machine: str) -> tuple[str, str]:
    """Return the values of ``grid`` and ``alive`` for a manager."""
    known = Sign(life.identity, database=life.database, machine=machine)
    alive = msgspec.structs.replace(known, life=life.token, place=life.place)
    return msgspec.json.encode(known).decode(), msgspec.json.encode(alive).decode()


def taken(life: Life, keys: Keys) -> Taken | None:
    """Return who else uses the lock keys, or None where this manager may.

    A sign that this database remembers is a predecessor's, which has lost the database: nobody waits for
    that. From any other of the same grid it is not known whether its manager is alive: it may be one
    on a copy of this database.
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
    """Return what the value of a key says."""
    try:
        return msgspec.json.decode(found.value, type=Sign)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # Whoever wrote it, it was none of us.
        return Sign("", database=f"that nobody can tell from {found.value[:100]!r}")
