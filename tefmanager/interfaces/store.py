"""The contracts with the database: who retries, what may be repeated, what a failure means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import Attribute, Interface

from tefmanager.config.secrets import Told
from tefmanager.core.model.dead_copies import CopyRow, DeadMessage, Stored
from tefmanager.core.model.identity import Life
from tefmanager.core.model.values import (
    AttemptRow,
    Bodies,
    Changes,
    DeadRow,
    FinishedRow,
    Snapshot,
    Stretch,
    SuiteEnds,
    TaskRow,
)

MOST_ATTEMPTS = 1000
"""Ended attempts of a task that are read: one that is tried for ever has any number of them."""


class StoreLost(Told):
    """The session with the database is gone, or is no longer to be trusted.

    Whether the statement under way took effect is not known: begin a new leadership and read.
    """


class StoreConflict(StoreLost):
    """The database refused the changes: they do not fit its rows. Nothing of them was written."""


class LeadershipOver(StoreLost):
    """The rows are not as this leadership left them: another one has begun, or a dump was restored."""


class SchemaTooNew(Exception):
    """The database was upgraded by a newer version of this program."""


class ILeadership(Interface):
    """The right to write, held by at most one manager of an environment and name prefix at a time.

    It lasts as long as its database session. After any `StoreLost` it is over for good.
    """

    epoch: int = Attribute("Number of this leadership; each is larger than the ones before.")
    life: Life = Attribute("Who leaderships.")

    def watch(tell: Callable[[StoreLost], None]) -> None:
        """Call ``tell`` once, as soon as the session is found to be gone, also between commits.

        At once where that is known already; never after `end`.
        """

    async def load(at_most: int | None = None) -> Snapshot:
        """Read all rows.

        Where there are more than ``at_most`` tasks, the plain ones (`TaskRow.plain`) are only counted,
        but for the first of each demand, by priority and age.
        """

    async def tasks(guids: Sequence[str]) -> Sequence[TaskRow]:
        """Return the tasks of these guids that are not finished, by id."""

    async def heads(task_type: str, resources: Sequence[str], each: int) -> Sequence[TaskRow]:
        """Return the first plain tasks of each suite on a demand, at most ``each``.

        Those of one suite stand together, in their order.
        """

    async def following(stretches: Sequence[Stretch]) -> Sequence[Sequence[TaskRow]]:
        """Return the plain tasks of each stretch, in their order."""

    async def commit(changes: Changes) -> Bodies:
        """Write a turn's changes in one transaction and return the bodies it asked for.

        Either all of it has happened when this returns, or `StoreLost` is raised; `StoreConflict` where
        the changes are to blame. Never retried by the implementation, never called while one is under way.
        """

    async def finished(guids: Sequence[str]) -> frozenset[str]:
        """Return those of the guids that are in history."""

    async def history(guids: Sequence[str]) -> Sequence[FinishedRow]:
        """Return the tasks of these guids that are in history, by guid; of several only the last one."""

    async def suite_ends(suites: Sequence[str]) -> SuiteEnds:
        """Count the tasks in history of each of these suites by their outcome."""

    async def attempts(task_id: int) -> Sequence[AttemptRow]:
        """Return the attempts of a task that ended, oldest first; the last `MOST_ATTEMPTS` of them."""

    async def dead(at_most: int) -> tuple[int, Sequence[DeadRow]]:
        """Count the dead tasks that did not come again and are not settled, and return the last ones.

        The count ends at a number of the implementation's, 10,000 or more.
        """

    async def message(task_id: int) -> Stored | None:
        """Return the message of a task, finished or not; None where it is gone."""

    async def dead_messages(guids: Sequence[str]) -> Sequence[DeadMessage]:
        """Return the messages of those of the guids that `dead` tells of, but not very many bytes at once.

        Where there are any, there is at least one.
        """

    async def copies(at_most: int) -> Sequence[CopyRow]:
        """Return the first dead tasks, by id, with whose copy in the dead queue something is to be done.

        One is due, or doubtful, or is to go since the task is settled.
        """

    async def settle(guids: Sequence[str]) -> Sequence[str]:
        """Let the dead tasks of these guids be listed no more; return those that were, sorted."""

    async def forget(before: float, at_most: int) -> int:
        """Remove up to ``at_most`` tasks that ended before a unix time from history, with their attempts.

        The oldest first; dead ones stay until they are settled, or came again and ended, and the dead queue
        has nothing of them. Returns how many.
        """

    async def end() -> None:
        """Give up the lock and the session. Never raises; may be called again."""


class IStore(Interface):
    """Where leaderships come from."""

    async def leadership(on_wait: Callable[[str], None], room: int = 0) -> ILeadership:
        """Wait until this manager is the active one, bring the schema up to date, begin a leadership.

        None begins on a database that can't be written to, or has no room for a body of ``room`` bytes.

        ``on_wait`` is told, each time it changes, what is being waited for, for people and without
        secrets ("database 127.0.0.1:5432: connection refused", "another manager is active").
        Connecting is retried for ever, with jittered backoff. Cancelling the Deferred that wraps it
        leaves no connection behind. Raises `SchemaTooNew`.
        """
