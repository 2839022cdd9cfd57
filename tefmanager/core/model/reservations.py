"""What is asked of Etcd for an attempt, and what it answers."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Claim(Struct, frozen=True):
    """The references that one attempt wants, or holds: one of each name."""

    attempt: int
    resources: tuple[str, ...]


class Granted(Struct, frozen=True):
    """All references of a claim that have an entry in Etcd are held now."""

    attempt: int
    reserved: tuple[str, ...]


class Refused(Struct, frozen=True):
    """Nothing of a claim is held: one resource had no reference to give."""

    attempt: int
    short: str


class Impossible(Struct, frozen=True):
    """What an attempt wants to take or give back can't be done, for a reason that concerns it alone.

    Etcd is there and refuses, and would again. Some of it may have been done: a claim that was to be taken
    is to be released.

    Attributes:
        reason: a text for people, with the resource and what Etcd said.
    """

    attempt: int
    reason: str


Outcome: TypeAlias = Granted | Refused | Impossible
"""Etcd's answer to a claim."""
