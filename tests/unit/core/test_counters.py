"""Numbers of tasks and attempts."""

from __future__ import annotations

from tefmanager.core.books.counters import BLOCK, Counters
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.values import ManagerRow


def test_numbers_stay_above_what_somebody_bears() -> None:
    """A lock key, or a row in flight, unknown to the manager's row; a block is set aside above it."""
    ledger = Ledger()
    counters = Counters(ManagerRow(), ledger)
    counters.stay_above(5000)
    counters.stay_above(7)
    assert counters.attempt() == 5001
    changes, _ = ledger.close()
    assert changes.manager is not None
    assert changes.manager.attempt_ids == 5001 + BLOCK


def test_a_number_that_nobody_can_have_used() -> None:
    """Anybody may write a lock key; one with a number near the largest bigint does not use them up."""
    counters = Counters(ManagerRow(), Ledger())
    counters.stay_above(2**63 - 1)
    assert counters.attempt() == 1
