"""The contract with whatever measures what the log does not show."""

from __future__ import annotations

from zope.interface import Interface, implementer


class IMeter(Interface):
    """Measures what the log does not show. Its methods never raise and never wait."""

    def turned(seconds: float) -> None:
        """Count a turn that took in at least one event; it lasted ``seconds``."""

    def dispatched(waited: float, time: float) -> None:
        """Count a task dispatched at unix time ``time``, ``waited`` seconds after it was received."""

    def reserved(outcome: str, reservations: int = 1) -> None:
        """Count Etcd's answer to reservations: ``granted``, ``refused``, ``impossible`` or ``unknown``."""

    def conflicted() -> None:
        """Count a write to Etcd that must be retried because another program changed the same keys."""


@implementer(IMeter)
class NoMeter:
    """Measures nothing."""

    def turned(self, seconds: float) -> None:
        """See `IMeter.turned`."""

    def dispatched(self, waited: float, time: float) -> None:
        """See `IMeter.dispatched`."""

    def reserved(self, outcome: str, reservations: int = 1) -> None:
        """See `IMeter.reserved`."""

    def conflicted(self) -> None:
        """See `IMeter.conflicted`."""
