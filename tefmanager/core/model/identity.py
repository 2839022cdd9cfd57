"""Identifies the active manager, so that another grid's manager is not mistaken for it."""

from __future__ import annotations

from msgspec import Struct


class Life(Struct, frozen=True):
    """Identifies the active manager of a grid.

    Attributes:
        identity: of the grid. It is created with the grid's tables, so a copy of the database has it too.
        token: random; identifies this leadership.
        earlier: the tokens of the last leaderships on this database, as far as the database remembers them.
        place: distinguishes this database from its copies and from other databases.
        database: its address, for people, without secrets.
    """

    identity: str
    token: str
    earlier: tuple[str, ...] = ()
    place: str = ""
    database: str = ""
