"""How long to wait between attempts."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tefmanager.support.backoff import Backoff


def test_backoff_doubles() -> None:
    """The delay doubles from 0.1 s to 10 s and stays there; it begins anew after a reset."""
    backoff = Backoff(Clock(), draw=lambda: 1.0)
    delays = [backoff.next() for _ in range(10)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_backoff_has_jitter() -> None:
    """Each delay is drawn from its upper half, so that many managers don't come back at once."""
    assert Backoff(Clock(), draw=lambda: 0.0).next() == pytest.approx(0.05)
    assert len({Backoff(Clock()).next() for _ in range(20)}) > 1


def test_backoff_for_ever() -> None:
    """It goes on for any number of attempts."""
    backoff = Backoff(Clock(), draw=lambda: 1.0)
    assert [backoff.next() for _ in range(5000)][-1] == 10


def test_pause_waits() -> None:
    """A pause ends when its time is over, on the clock it was given."""
    clock = Clock()
    paused = Deferred.fromCoroutine(Backoff(clock, first=4.0, draw=lambda: 1.0).pause())
    clock.advance(3.9)
    assert not paused.called
    clock.advance(0.2)
    assert paused.called


def test_hurry_ends_a_pause() -> None:
    """With reason to hope nobody waits; where nobody waits nothing happens."""
    clock = Clock()
    backoff = Backoff(clock)
    backoff.hurry()
    paused = Deferred.fromCoroutine(backoff.pause())
    backoff.hurry()
    assert paused.called
    assert not clock.getDelayedCalls()
    backoff.hurry()
