"""Who counts what the log does not tell."""

from __future__ import annotations

from zope.interface import Interface, implementer


class IMeter(Interface):
    """Who counts what the log does not tell. Nothing is raised and nothing waits."""

    def turned(seconds: float) -> None:
        """A turn that took something in has ended, and took so long."""

    def dispatched(waited: float, time: float) -> None:
        """At a unix time a task was dispatched, so many seconds after it came in."""

    def reserved(outcome: str, claims: int = 1) -> None:
        """Etcd's answer to so many claims was ``granted``, ``refused``, ``impossible`` or ``unknown``."""

    def conflicted() -> None:
        """A write to Etcd has to be tried again: others had changed what it was decided by."""


@implementer(IMeter)
class NoMeter:
    """Counts nothing."""

    def turned(self, seconds: float) -> None:
        """See `IMeter.turned`."""

    def dispatched(self, waited: float, time: float) -> None:
        """See `IMeter.dispatched`."""

    def reserved(self, outcome: str, claims: int = 1) -> None:
        """See `IMeter.reserved`."""

    def conflicted(self) -> None:
        """See `IMeter.conflicted`."""
