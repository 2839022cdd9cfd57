"""Noticing that Etcd is not what it was: restored from a snapshot, emptied, or another one at its place.

Then all that was known is void: a revision that was seen before may stand for something else now.
"""

from __future__ import annotations

from tefmanager.interfaces.etcd import ReservationsLost


class Replaced(ReservationsLost):
    """Etcd is older than it was, or another one."""


class Timeline:
    """What the answers of an Etcd say of itself.

    Its revision (v2: index) only grows. Answers may overtake each other, so each is compared with what was
    known when it was asked for.

    Attributes:
        newest: the highest revision of which is known.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._cluster = ""
        self._replaced: str | None = None

    def answered(self, before: int, revision: int, cluster: str) -> None:
        """Take note of an answer, ``before`` being `newest` as it was asked for. Raises `Replaced`.

        A revision of 0 and a cluster of "" say nothing.
        """
        if cluster and self._cluster and cluster != self._cluster:
            self._begin(revision, cluster, f"it is another one: cluster {cluster}, before {self._cluster}")
        elif 0 < revision < before:
            self._begin(revision, cluster, f"it is older than it was: revision {revision}, before {before}")
        self._cluster = cluster or self._cluster
        self.newest = max(self.newest, revision)

    def _begin(self, revision: int, cluster: str, reason: str) -> None:
        self._replaced = reason
        self._cluster, self.newest = cluster, revision
        raise Replaced(f"etcd: {reason}")

    def replaced(self) -> str | None:
        """Return once why all that was known is void, or None."""
        reason, self._replaced = self._replaced, None
        return reason
