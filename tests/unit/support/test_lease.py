"""The right to act: how long it holds, and who waits for it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tefmanager.support.lease import Lease, seconds_since_boot


def asked(lease: Lease) -> list[bool]:
    """Ask whether it is certain; the answer comes into the list."""
    answers: list[bool] = []
    Deferred.fromCoroutine(lease.certain()).addCallback(answers.append)
    return answers


def holds(lease: Lease) -> bool:
    """Ask it. mypy would take a property for unchanged."""
    return lease.holds


def test_it_holds_from_the_question_not_from_the_answer() -> None:
    """The database may have been quick and the answer slow: only the question's time is certain."""
    clock = Clock()
    lease = Lease(7.0, clock.seconds)
    assert not holds(lease)
    question = lease.now
    clock.advance(3.0)
    lease.renew(question)
    clock.advance(3.9)
    assert holds(lease)
    clock.advance(0.2)
    assert not holds(lease)


def test_a_late_answer_to_an_old_question_shortens_nothing() -> None:
    """Of two answers the one to the later question counts."""
    clock = Clock()
    lease = Lease(7.0, clock.seconds)
    clock.advance(10.0)
    lease.renew(10.0)
    lease.renew(4.0)
    clock.advance(6.0)
    assert holds(lease)


def test_who_waits_is_told() -> None:
    """A lapsed lease is waited for; a renewal or the end of the leadership is the answer."""
    clock = Clock()
    lease = Lease(7.0, clock.seconds)
    assert asked(lease) == [False]  # there is no leadership
    lease.renew(0.0)
    assert asked(lease) == [True]
    clock.advance(8.0)
    first, renewals = asked(lease), []
    lease.on_renewal(lambda: renewals.append(lease.now))
    lease.renew(0.5)  # too old to count
    assert (first, renewals) == ([], [])
    lease.renew(8.0)
    assert (first, renewals) == ([True], [8.0])
    clock.advance(8.0)
    second = asked(lease)
    lease.end()
    assert second == [False]
    assert not holds(lease)


def test_who_gives_up_waiting_is_forgotten() -> None:
    """Cancelling is no answer."""
    clock = Clock()
    lease = Lease(7.0, clock.seconds)
    lease.renew(0.0)
    clock.advance(8.0)
    waiting = Deferred.fromCoroutine(lease.certain())
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    lease.renew(8.0)
    assert holds(lease)


def test_unlimited() -> None:
    """Where there is no leadership it always holds."""
    assert Lease.unlimited().holds
    assert asked(Lease.unlimited()) == [True]


def test_the_clock_goes_on() -> None:
    """It is one that only grows."""
    assert 0 < seconds_since_boot() <= seconds_since_boot()
