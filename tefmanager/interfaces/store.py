"""The contracts with the database: who retries, what may be repeated, what a failure means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import Attribute, Interface

from tefmanager.config.secrets import Told
from tefmanager.core.model.dead_copies import CopyRow, DeadMessage, Stored
from tefmanager.core.model.endings import SuiteEnds
from tefmanager.core.model.identity import Life
from tefmanager.core.model.past import NOW, PastFilter, PastPage, Place
from tefmanager.core.model.values import (
    AttemptRow,
    Bodies,
    Changes,
    DeadRow,
    FinishedRow,
    Snapshot,
    Stretch,
    TaskRow,
)

MOST_ATTEMPTS = 1000
"""How many ended attempts of a task are read at most. A task that is retried for ever has any number of
them."""


class StoreLost(Told):
    """The database session has ended or can't be trusted any more.

    It is unknown whether the statement under way took effect. Begin a new leadership and read the rows
    again.
    """


class StoreConflict(StoreLost):
    """The database refused the changes because they do not fit its rows. None of them was written."""


class LeadershipOver(StoreLost):
    """The rows are not as this leadership left them: another has begun, or a backup was restored."""


class SchemaTooNew(Exception):
    """The database was upgraded by a newer version of this program."""


class CantRead(Told):
    """What people want to see can't be read from the database at present. Nothing else is affected."""


class IReader(Interface):
    """Reads what people want to see, beside the turns: whatever it costs, no turn waits for it.

    It connects at the first question, again after each failure, and disconnects if nobody asks.
    """

    async def past(wanted: PastFilter, at_most: int, before: Place = NOW) -> PastPage:
        """Return at most ``at_most`` wanted tasks from history before a place, newest first.

        Looks at a limited number of tasks, so that a page costs the same however long history is. So a page
        may have fewer tasks, or none, and yet be followed by another one. Raises `CantRead`.
        """


class ILeadership(Interface):
    """The right to write. At most one manager of an environment and name prefix has it at a time.

    It lasts as long as its database session. After any `StoreLost` it is over for good.
    """

    epoch: int = Attribute("Number of this leadership; each is larger than the ones before.")
    life: Life = Attribute("The grid whose tables these are.")
    reader: IReader = Attribute("Reads what people want to see. It is closed when the leadership ends.")

    def on_lost(tell: Callable[[StoreLost], None]) -> None:
        """Call ``tell`` once, as soon as the session is found to be lost, even between commits.

        If that is known already, ``tell`` is called at once. It is never called after `end`.
        """

    async def load(at_most: int | None = None) -> Snapshot:
        """Read all rows.

        If there are more than ``at_most`` tasks, plain ones (`TaskRow.plain`) are only counted, except the
        first of each demand by priority and age.
        """

    async def tasks(guids: Sequence[str]) -> Sequence[TaskRow]:
        """Return the unfinished tasks with these guids, ordered by id."""

    async def heads(task_type: str, resources: Sequence[str], each: int) -> Sequence[TaskRow]:
        """Return at most ``each`` plain tasks per suite of one demand, those that are first in line.

        The tasks of a suite are returned together, in their order.
        """

    async def following(stretches: Sequence[Stretch]) -> Sequence[Sequence[TaskRow]]:
        """Return the plain tasks of each stretch, in their order."""

    async def commit(changes: Changes) -> Bodies:
        """Write a turn's changes in one transaction and return the bodies that it asked for.

        When this returns, all of the changes are committed. Otherwise it raises `StoreLost`, or
        `StoreConflict` if the changes themselves are at fault. The implementation never retries; the caller
        never calls it while another commit is under way.
        """

    async def finished(guids: Sequence[str]) -> frozenset[str]:
        """Return which of the guids are in history."""

    async def history(guids: Sequence[str]) -> Sequence[FinishedRow]:
        """Return the tasks with these guids from history; only the last one of each guid."""

    async def suite_ends(suites: Sequence[str]) -> SuiteEnds:
        """Count, for each of these suites, its tasks in history by outcome."""

    async def attempts(task_id: int) -> Sequence[AttemptRow]:
        """Return the last `MOST_ATTEMPTS` ended attempts of a task, oldest first."""

    async def dead(at_most: int) -> tuple[int, Sequence[DeadRow]]:
        """Count the dead tasks that are neither settled nor submitted again, and return the last of them.

        The implementation may stop counting at a number of its own, 10,000 or more.
        """

    async def message(task_id: int) -> Stored | None:
        """Return the message of a task, finished or not; None if it is gone."""

    async def dead_messages(guids: Sequence[str]) -> Sequence[DeadMessage]:
        """Return the messages of those guids that `dead` lists, up to a limit of bytes per call.

        If there are any, at least one is returned.
        """

    async def copies(at_most: int) -> Sequence[CopyRow]:
        """Return the first dead tasks, by id, whose copy in the dead queue needs attention.

        A copy needs attention if it is due or in doubt, or if it must be removed because its task is
        settled.
        """

    async def settle(guids: Sequence[str]) -> Sequence[str]:
        """Stop listing the dead tasks with these guids; return those that were listed, sorted."""

    async def forget(before: float, at_most: int) -> int:
        """Remove up to ``at_most`` tasks that ended before a unix time, with their attempts.

        The oldest go first. A dead task stays until it is settled or submitted again, and until the
        dead queue has no copy of it. Returns the number of removed tasks.
        """

    async def end() -> None:
        """Give up the lock and the session. Never raises; may be called again."""


class IStore(Interface):
    """Grants leaderships."""

    async def leadership(on_wait: Callable[[str], None], room: int = 0) -> ILeadership:
        """Wait until this manager is the active one, upgrade the schema, and begin a leadership.

        None begins on a database that is read-only or has no room for a body of ``room`` bytes.

        ``on_wait`` is called with what is being waited for, each time that changes. The text is for people
        and contains no secrets ("database 127.0.0.1:5432: connection refused", "another manager is
        active"). Connecting is retried for ever, with jittered backoff. Cancelling the Deferred that wraps
        this coroutine leaves no connection behind. Raises `SchemaTooNew`.
        """
