"""The requests of attempts to Etcd, Etcd's answers, and what the attempts then have."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Reservation(Struct, frozen=True):
    """The references that one attempt wants or holds: one of each resource."""

    attempt: int
    resources: tuple[str, ...]


class Granted(Struct, frozen=True):
    """All references of the reservation that have an entry in Etcd are held now."""

    attempt: int
    reserved: tuple[str, ...]


class Refused(Struct, frozen=True):
    """No reference of the reservation is held: one resource had none free."""

    attempt: int
    short: str


class Impossible(Struct, frozen=True):
    """A reservation can't be made or released, for a reason that concerns it alone.

    Etcd answers with a refusal, and would refuse again. It may have carried out a part: what was to be
    taken must be released.

    Attributes:
        reason: a text for people, with the resource and Etcd's words.
    """

    attempt: int
    reason: str


Outcome: TypeAlias = Granted | Refused | Impossible
"""Etcd's answer to a reservation."""


class References(Struct, frozen=True):
    """Which of the references that its task needs an attempt has.

    Attributes:
        lacks: names of those that it needs and does not have; Etcd is asked for them while the attempt is
            in `Attempts.reserving`.
        held: it holds, or may hold, some.
    """

    lacks: tuple[str, ...] = ()
    held: bool = False

    def granted(self, *, held: bool) -> References:
        """Etcd has granted what it lacked; ``held``: at least one of them has an entry in Etcd."""
        return References(held=self.held or held)

    def lacking(self, names: tuple[str, ...]) -> References:
        """It lacks exactly these."""
        return References(names, held=self.held)

    def may_hold(self) -> References:
        """It is unknown which of them were granted."""
        return References(self.lacks, held=True)

    def given_back(self) -> References:
        """It holds none."""
        return References(self.lacks)


NO_REFERENCES = References()
"""The value for an attempt that needs none."""
