"""Finds out whether a connection pooler gives each transaction another session of the server.

With one that does (PgBouncer's pool modes *transaction* and *statement*), the lock that makes a manager
the active one is nobody's, and what is set for a session is set for others. Nothing has been set yet when
this is found out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tefmanager.interfaces.store import StoreLost
from tefmanager.store.session import Session

ROUNDS = 3
"""How often it is looked whether the session stays the same while others take what is free."""

PATIENCE = 2.0
"""Seconds that a second connection may take. It waits where a pool of whole sessions has none left."""

_PROCESS = "select pg_backend_pid()"

REFUSED = (
    "a connection pooler gives each transaction another session of PostgreSQL (pool_mode transaction or "
    "statement); expected pool_mode session for this database, or PostgreSQL itself"
)

Opened = Callable[[], Awaitable[Session]]


async def refuse_changing_sessions(session: Session, another: Opened) -> None:
    """Raise `StoreLost` unless a session stays the same from one transaction to the next.

    Without a pooler in between the server's process is the one that it named when we connected, and that is
    all. With one, ``another`` connection takes a session and holds it: it must not be ours.
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
    """Return the process that a second session takes for a moment; None where there is none for it."""
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
