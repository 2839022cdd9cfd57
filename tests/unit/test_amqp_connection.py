"""How long to wait between attempts."""

from __future__ import annotations

import pytest

from tefmanager.amqp.connection import Backoff


def test_backoff_doubles() -> None:
    """The delay doubles from 0.1 s to 10 s and stays there; it begins anew after a reset."""
    backoff = Backoff(lambda: 1.0)
    delays = [backoff.next() for _ in range(10)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_backoff_has_jitter() -> None:
    """Each delay is drawn from its upper half, so that many managers don't come back at once."""
    assert Backoff(lambda: 0.0).next() == pytest.approx(0.05)
    assert len({Backoff().next() for _ in range(20)}) > 1


def test_backoff_for_ever() -> None:
    """It goes on for any number of attempts."""
    backoff = Backoff(lambda: 1.0)
    assert [backoff.next() for _ in range(5000)][-1] == 10
