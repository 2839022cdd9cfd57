"""The manager's own row: its state, the numbers that name tasks and attempts, and the calendar's day."""

from __future__ import annotations

from msgspec.structs import replace

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.values import ManagerRow
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import ManagerState

_MOST = 2**62
"""Numbers of attempts stay below this, so that no lock key of somebody's can use them up."""

BLOCK = 1000
"""Numbers that are reserved in the database at a time; those left over at the end are never used."""


class Counters:
    """Gives out numbers that no leadership before or after gives out again.

    A block is written to the row in the turn in which its first number is used, so that it is
    committed before anything bears such a number outside.

    Attributes:
        committed: numbers of attempts below this one are set aside in the database.
    """

    def __init__(self, row: ManagerRow, ledger: Ledger) -> None:
        self._row = row
        self._ledger = ledger
        self._task = row.task_ids
        self._attempt = row.attempt_ids
        self.committed = row.attempt_ids

    @property
    def state(self) -> ManagerState:
        """The manager's state."""
        return self._row.state

    @property
    def state_since(self) -> float | None:
        """Unix time at which the manager's state became what it is, or None where nobody knows."""
        return self._row.state_since

    def set_state(self, state: ManagerState, wall: float) -> None:
        """Make a state the manager's, at a unix time."""
        if state is not self._row.state:
            self._ledger.log(catalogue.STATE_CHANGE(self._row.state, state))
            self._write(replace(self._row, state=state, state_since=wall))

    def date(self, calendar: float | None) -> None:
        """Write down how far the calendar is (unix time), unless it is None."""
        if calendar is not None:
            self._write(replace(self._row, calendar=calendar))

    @property
    def next_task(self) -> int:
        """The number that the next new task will have."""
        return self._task

    def task(self) -> int:
        """Return a new task's number; larger than all before."""
        number, self._task = self._task, self._task + 1
        if self._task > self._row.task_ids:
            self._write(replace(self._row, task_ids=number + BLOCK))
        return number

    def attempt(self) -> int:
        """Return a new attempt's number; larger than all before."""
        number, self._attempt = self._attempt, self._attempt + 1
        if self._attempt > self._row.attempt_ids:
            self._write(replace(self._row, attempt_ids=number + BLOCK))
        return number

    def stay_above(self, attempt: int) -> None:
        """Give out no number of an attempt that is not above this one, which somebody bears already.

        Rows restored from a dump may know less than Etcd does. What nobody can have used is ignored.
        """
        if self._attempt <= attempt < _MOST:
            self._attempt = attempt + 1

    def _write(self, row: ManagerRow) -> None:
        self._row = row
        self._ledger.manager(row)
