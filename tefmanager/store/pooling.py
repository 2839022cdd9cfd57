"""Detects a connection pooler that gives each transaction another session of the server.

With such a pooler (PgBouncer's pool modes *transaction* and *statement*), the lock that makes a manager the
active one belongs to nobody in particular, and session settings apply to other clients. This is checked
before anything is set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tefmanager.interfaces.store import StoreLost
from tefmanager.store.session import Session

ROUNDS = 3
"""How often it is checked whether the session stays the same while other connections take free ones."""

PATIENCE = 2.0
"""Seconds to wait for a second connection. A pool in session mode may have none left."""

_PROCESS = "select pg_backend_pid()"

REFUSED = (
    "a connection pooler gives each transaction another session of PostgreSQL (pool_mode transaction or "
    "statement); expected pool_mode session for this database, or PostgreSQL itself"
)

Opened = Callable[[], Awaitable[Session]]


async def refuse_changing_sessions(session: Session, another: Opened) -> None:
    """Raise `StoreLost` unless the session stays the same from one transaction to the next.

    Without a pooler, the server's process is the one that was named when we connected, and nothing more is
    checked. With a pooler, ``another`` connection takes a session and holds it; that one must not be ours.
    """
    mine = await _process(session)
    if mine == session.named_process:
        return
    for _ in range(ROUNDS):
        held = await _held(another)
        if held == mine or await _process(session) != mine:
            raise StoreLost(REFUSED)


async def _process(session: Session) -> int:
    [(process,)] = await session.run(_PROCESS)
    return int(process)


async def _held(another: Opened) -> int | None:
    """Return the process of a second session that is held for a moment, or None if none is available."""
    other: Session | None = None
    try:
        other = await another()
        [(process,)] = await other.run(f"begin; {_PROCESS}", PATIENCE)
        return int(process)
    except StoreLost as error:
        if "statement pooling" in str(error):
            raise StoreLost(REFUSED) from None
        return None
    finally:
        if other is not None:
            other.close()
