"""How long a session and its server put up with each other's silence: all times from one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tefmanager.store.hostlist import Keywords


@dataclass(frozen=True, slots=True)
class Silence:
    """Times, in seconds, by which a peer that went silent is found within ``limit`` seconds.

    The order of them is what counts. An idle session asks something every ``ping`` seconds, and so the
    server may take it for dead after ``session`` seconds without a question: its process is frozen, while
    the kernel goes on answering keepalives. The lock goes to a standby then. Before that, after ``lease``
    seconds, the manager itself must stop acting as the active one.
    """

    limit: float = 12.0

    @property
    def ping(self) -> float:
        """Between two questions."""
        return self.limit / 6

    @property
    def statement(self) -> float:
        """That the server works on a statement."""
        return self.limit * 4 / 6

    @property
    def answer(self) -> float:
        """That an answer may take."""
        return self.limit * 5 / 6

    @property
    def lease(self) -> float:
        """That a manager may act after it has asked what was answered."""
        return self.limit * 3.5 / 6

    @property
    def session(self) -> float:
        """That the server waits for the next statement."""
        return self.limit * 5 / 6

    @property
    def keywords(self) -> Keywords:
        """What libpq is told, so that a peer whose machine is gone is found in time."""
        return {
            "keepalives_idle": max(1, int(self.limit / 3)),
            "keepalives_interval": max(1, int(self.limit / 6)),
            "keepalives_count": 3,
            "tcp_user_timeout": int(self.session * 1000),
        }

    @property
    def settings(self) -> Mapping[str, str]:
        """What the server is told, for the same reasons."""
        session = f"{self.session * 1000:.0f}"
        return {
            "statement_timeout": f"{self.statement * 1000:.0f}",
            "idle_session_timeout": session,
            "idle_in_transaction_session_timeout": session,
            "tcp_keepalives_idle": str(self.keywords["keepalives_idle"]),
            "tcp_keepalives_interval": str(self.keywords["keepalives_interval"]),
            "tcp_keepalives_count": str(self.keywords["keepalives_count"]),
            "tcp_user_timeout": session,
            "client_connection_check_interval": f"{self.limit / 3 * 1000:.0f}",
        }
