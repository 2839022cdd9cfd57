"""The requests of attempts to Etcd, and Etcd's answers."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Claim(Struct, frozen=True):
    """The references that one attempt wants or holds: one of each resource."""

    attempt: int
    resources: tuple[str, ...]


class Granted(Struct, frozen=True):
    """All references of the claim that have an entry in Etcd are held now."""

    attempt: int
    reserved: tuple[str, ...]


class Refused(Struct, frozen=True):
    """No reference of the claim is held: one resource had none free."""

    attempt: int
    short: str


class Impossible(Struct, frozen=True):
    """An attempt's claim can't be reserved or released, for a reason that concerns it alone.

    Etcd answers, refuses, and would refuse again. It may have done a part: a claim that was to be reserved
    must be released.

    Attributes:
        reason: a text for people, with the resource and Etcd's words.
    """

    attempt: int
    reason: str


Outcome: TypeAlias = Granted | Refused | Impossible
"""Etcd's answer to a claim."""
