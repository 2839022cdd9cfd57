"""Who a manager is, for others that might be mistaken for it."""

from __future__ import annotations

from msgspec import Struct


class Life(Struct, frozen=True):
    """Who the active manager is, for those that might be mistaken for it.

    Attributes:
        identity: of the grid; made with its tables, so a copy of the database has it, too.
        token: of this leadership, random.
        earlier: the tokens of the last leaderships on this database, as far as it remembers.
        place: tells this database from its copies and from other databases.
        database: where it is, for people, without secrets.
    """

    identity: str
    token: str
    earlier: tuple[str, ...] = ()
    place: str = ""
    database: str = ""
