"""The manager's own row: its state, the next numbers for tasks and attempts, and the calendar's day."""

from __future__ import annotations

from msgspec.structs import replace

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.values import ManagerRow
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import ManagerState

_MOST = 2**62
"""Numbers of attempts stay below this, so that nobody's lock key can use them up."""

BLOCK = 1000
"""How many numbers are reserved in the database at a time; unused ones are never given out."""


class Counters:
    """Gives out numbers that no other leadership gives out.

    A block is written to the row in the turn that uses its first number, so that it is committed before
    such a number is visible outside.

    Attributes:
        committed: numbers of attempts below this one are reserved in the database.
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
        """Unix time since which the manager has this state, or None if unknown."""
        return self._row.state_since

    def set_state(self, state: ManagerState, wall: float) -> None:
        """Set the manager's state, as of a unix time."""
        if state is not self._row.state:
            self._ledger.log(catalogue.STATE_CHANGE(self._row.state, state))
            self._write(replace(self._row, state=state, state_since=wall))

    def date(self, calendar: float | None) -> None:
        """Record the calendar's unix time, unless it is None."""
        if calendar is not None:
            self._write(replace(self._row, calendar=calendar))

    @property
    def next_task(self) -> int:
        """The number that the next new task will get."""
        return self._task

    def task(self) -> int:
        """Return a number for a new task, larger than all before."""
        number, self._task = self._task, self._task + 1
        if self._task > self._row.task_ids:
            self._write(replace(self._row, task_ids=number + BLOCK))
        return number

    def attempt(self) -> int:
        """Return a number for a new attempt, larger than all before."""
        number, self._attempt = self._attempt, self._attempt + 1
        if self._attempt > self._row.attempt_ids:
            self._write(replace(self._row, attempt_ids=number + BLOCK))
        return number

    def stay_above(self, attempt: int) -> None:
        """Give out only numbers of attempts above this one, which is already in use.

        Rows restored from a dump may know less than Etcd does. A number that nobody can have used is
        ignored.
        """
        if self._attempt <= attempt < _MOST:
            self._attempt = attempt + 1

    def _write(self, row: ManagerRow) -> None:
        self._row = row
        self._ledger.manager(row)
