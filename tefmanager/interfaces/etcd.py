"""The contracts with Etcd: who retries, what may be repeated, what a failure means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from zope.interface import Interface

from tefmanager.config.secrets import Told
from tefmanager.core.model.reservations import Impossible, Outcome, Reservation
from tefmanager.core.model.resources import Resource


class ReservationsLost(Told):
    """Etcd did not answer, or not in time. It is unknown whether the request took effect."""


Seen: TypeAlias = Mapping[str, Resource | None]
"""New states of resources, by name; None if the entry is gone."""


class IResourceObserver(Interface):
    """Receives what Etcd says, in the order in which it became true."""

    def resources_seen(seen: Seen) -> None:
        """Take in changes of single resources, whoever made them."""

    def resources_read(seen: Seen, held: Mapping[int, frozenset[str]]) -> None:
        """Take in a full read: all resources, and by attempt the resources that our own lock keys hold.

        A name that is not in ``seen`` has no entry. ``held`` leaves out attempts whose reservation is still
        under way, since Etcd's answer to it says what they hold.
        """

    def resources_replaced(reason: str) -> None:
        """Note that Etcd was restored to an older state or replaced. What attempts hold may be gone.

        Called just before the full read that shows the present state.
        """

    def resources_lost(reason: str) -> None:
        """Note that Etcd is unreachable, or is so for a new reason.

        Reservations wait. A full read follows when Etcd is back.
        """


class IReservations(Interface):
    """Reserves and releases references to the shared resources in Etcd."""

    def start(observer: IResourceObserver) -> None:
        """Begin to read and watch, until `stop`. Reconnects by itself, with jittered backoff."""

    async def reserve(reservations: Sequence[Reservation]) -> Sequence[Outcome]:
        """Handle the reservations in order: for each one, take all of its references or none.

        If Etcd refuses one reservation, only that reservation is `Impossible`.

        A resource without an entry in Etcd is left out of ``reserved``. The observer hears of the new
        counts before this returns. The implementation retries conflicts with other programs and never
        exceeds a limit. After `ReservationsLost` no outcome is known: the caller must release each
        reservation before forgetting it.
        """

    async def release(reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        """Give back what the attempts still hold of these resources, if they hold anything.

        Each reference is given back once, with its own lock key, so the call may be repeated at will; after
        `ReservationsLost` it must be repeated. Returns the reservations for which Etcd refuses to take a
        reference back. All other attempts hold nothing afterwards.
        """

    async def refresh() -> None:
        """Read everything anew and tell the observer. Raises `ReservationsLost`."""

    async def stop() -> None:
        """Stop watching and close the connections. Requests under way fail with `ReservationsLost`."""
