"""How long a session and its server tolerate each other's silence: all times derived from one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tefmanager.store.hostlist import Keywords


@dataclass(frozen=True, slots=True)
class Silence:
    """Times, in seconds, by which a silent peer is detected within ``limit`` seconds.

    Their order matters. An idle session asks something every ``ping`` seconds. So after ``session`` seconds
    without a question, the server may assume that the manager's process is frozen, even if its kernel still
    answers keepalives. The lock then goes to a standby. Before that, after ``lease`` seconds, the manager
    itself must stop acting as the active one.
    """

    limit: float = 12.0

    @property
    def ping(self) -> float:
        """Seconds between two questions."""
        return self.limit / 6

    @property
    def statement(self) -> float:
        """Seconds that the server may work on a statement."""
        return self.limit * 4 / 6

    @property
    def answer(self) -> float:
        """Seconds that an answer may take."""
        return self.limit * 5 / 6

    @property
    def lease(self) -> float:
        """Seconds that a manager may act after it sent a question that was answered."""
        return self.limit * 3.5 / 6

    @property
    def session(self) -> float:
        """Seconds that the server waits for the next statement."""
        return self.limit * 5 / 6

    @property
    def keywords(self) -> Keywords:
        """The keywords for libpq by which a peer whose machine is down is detected in time."""
        return {
            "keepalives_idle": max(1, int(self.limit / 3)),
            "keepalives_interval": max(1, int(self.limit / 6)),
            "keepalives_count": 3,
            "tcp_user_timeout": int(self.session * 1000),
        }

    @property
    def settings(self) -> Mapping[str, str]:
        """The server's settings for the same purpose."""
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
