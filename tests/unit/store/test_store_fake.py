"""Failures on demand, which only the fake store has."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tefmanager.core.model.values import Changes
from tefmanager.interfaces.store import StoreLost
from tests.fakes.store import Breaks, FakeDatabase, FakeLeadership, FakeStore


def now(awaited: Deferred[FakeLeadership]) -> FakeLeadership:
    """Return the result that a Deferred has already."""
    results: list[FakeLeadership] = []
    awaited.addCallback(results.append)
    [result] = results
    return result


def begin(database: FakeDatabase) -> FakeLeadership:
    """Begin a leadership with no other in the way."""
    return now(Deferred.fromCoroutine(FakeStore(database).leadership(lambda text: None)))


@pytest.mark.parametrize("breaks", Breaks)
def test_a_commit_loses_its_session(breaks: Breaks) -> None:
    """Before or after it took effect; the next leadership sees which."""
    database = FakeDatabase()
    leadership = begin(database)
    database.breaks = breaks
    failed: list[Failure] = []
    commit = Deferred.fromCoroutine(leadership.commit(Changes(paused=["suite"])))
    commit.addErrback(failed.append)
    assert [failure.type for failure in failed] == [StoreLost]
    assert database.rows.paused == ({"suite"} if breaks is Breaks.AFTER else set())
    assert begin(database).epoch > leadership.epoch


def test_a_database_that_goes_away() -> None:
    """Leaderships are lost, and the next one waits until the database is back."""
    database = FakeDatabase()
    lost: list[StoreLost] = []
    begin(database).on_lost(lost.append)
    database.go_away("gone")
    told: list[str] = []
    waiting = Deferred.fromCoroutine(FakeStore(database).leadership(told.append))
    assert ([str(error) for error in lost], told, waiting.called) == (["gone"], ["gone"], False)
    database.come_back()
    assert now(waiting).epoch == 2


def test_commits_that_are_held() -> None:
    """They write nothing until they may go on."""
    database = FakeDatabase()
    commit = Deferred.fromCoroutine(_hold_and_commit(database))
    assert (database.rows.paused, commit.called) == (set(), False)
    database.go_on()
    assert (database.rows.paused, commit.called) == ({"suite"}, True)


async def _hold_and_commit(database: FakeDatabase) -> None:
    leadership = begin(database)
    database.hold()
    await leadership.commit(Changes(paused=["suite"]))
