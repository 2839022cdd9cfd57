"""Notices that Etcd was restored from a snapshot, emptied, or replaced by another one.

Then everything known is void: a revision that was seen before may mean something else now.
"""

from __future__ import annotations

from tefmanager.interfaces.etcd import ReservationsLost


class Replaced(ReservationsLost):
    """Etcd was restored to an older state or replaced."""


class Timeline:
    """Tracks the revision and cluster that Etcd's answers report.

    The revision (v2: index) only grows. Answers may overtake each other, so each one is compared with what
    was known when its request was sent.

    Attributes:
        newest: the highest known revision.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._cluster = ""
        self._replaced: str | None = None

    def answered(self, before: int, revision: int, cluster: str) -> None:
        """Take in an answer; ``before``: `newest` when the request was sent. Raises `Replaced`.

        A revision of 0 and a cluster of "" mean nothing.
        """
        if cluster and self._cluster and cluster != self._cluster:
            self._begin(
                revision, cluster, f"it is a different one: cluster {cluster}, before {self._cluster}"
            )
        elif 0 < revision < before:
            self._begin(revision, cluster, f"it is older than it was: revision {revision}, before {before}")
        self._cluster = cluster or self._cluster
        self.newest = max(self.newest, revision)

    def _begin(self, revision: int, cluster: str, reason: str) -> None:
        self._replaced = reason
        self._cluster, self.newest = cluster, revision
        raise Replaced(f"etcd: {reason}")

    def replaced(self) -> str | None:
        """Return, once, why everything known is void; otherwise None."""
        reason, self._replaced = self._replaced, None
        return reason
