"""The contracts with Etcd: who retries, what may be repeated, what a failure means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from zope.interface import Interface

from tefmanager.config.secrets import Told
from tefmanager.core.model.reservations import Claim, Impossible, Outcome
from tefmanager.core.model.resources import Resource


class ReservationsLost(Told):
    """Etcd did not answer, or not in time. Whether the request took effect is not known."""


Seen: TypeAlias = Mapping[str, Resource | None]
"""What is newly known of resources, by name; None where the entry is gone."""


class IResourceObserver(Interface):
    """Who is told what Etcd says, in the order in which it became true."""

    def resources_seen(seen: Seen) -> None:
        """Take in changes of single resources, ours or of others."""

    def resources_read(seen: Seen, held: Mapping[int, frozenset[str]]) -> None:
        """Take in a full read: all resources there are, and our own lock keys by attempt.

        A name that is not in ``seen`` has no entry. ``held`` leaves out attempts whose claim is being
        answered: the answer tells.
        """

    def resources_replaced(reason: str) -> None:
        """Etcd is older than it was, or another one: what attempts hold may be gone.

        Told just before the full read that shows what there is.
        """

    def resources_lost(reason: str) -> None:
        """Etcd is away, or for a new reason; reservations wait. A full read follows when it is back."""


class IReservations(Interface):
    """References to shared resources, in Etcd."""

    def start(observer: IResourceObserver) -> None:
        """Begin to read and watch, for ever: reconnects by itself, with jittered backoff."""

    async def reserve(claims: Sequence[Claim]) -> Sequence[Outcome]:
        """Take all references of a claim or none of them, claim by claim, in order.

        What Etcd refuses to do for one claim concerns that claim alone: it is `Impossible`.

        A name without an entry in Etcd is left out of ``reserved``. Before this returns the observer
        has been told the counts that result. A conflict with another program is retried within; a
        limit is never passed. On `ReservationsLost` the outcome of every claim is unknown: release
        each of them before it is forgotten.
        """

    async def release(claims: Sequence[Claim]) -> Sequence[Impossible]:
        """Give back what the attempts still hold of these resources; nothing where they hold nothing.

        A reference is given back by its own lock key, once, so this may be repeated at will. On
        `ReservationsLost` call it again. Returns the claims of which Etcd refuses to give something back:
        the others hold nothing any more.
        """

    async def refresh() -> None:
        """Read everything anew and tell the observer. Raises `ReservationsLost`."""

    async def stop() -> None:
        """Stop watching and close connections; a request under way fails with `ReservationsLost`."""
