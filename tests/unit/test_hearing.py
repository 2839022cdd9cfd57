"""Silence counts only when it is certain."""

from __future__ import annotations

from math import inf

from tefmanager.hearing import PROBE_INTERVAL, Hearing


def test_a_probe_tells_up_to_when_all_was_heard() -> None:
    """What was said before the probe was sent has been heard when it comes back, however late."""
    sent: list[str] = []
    hearing = Hearing("7", sent.append)
    assert hearing.until == -inf
    assert hearing.ask(100.0) == 100.0 + PROBE_INTERVAL
    hearing.came(sent[0])
    assert hearing.until == 100.0


def test_one_probe_at_a_time() -> None:
    """While one is under way no other is sent, until it must be taken for lost."""
    sent: list[str] = []
    hearing = Hearing("7", sent.append)
    hearing.ask(100.0)
    hearing.ask(105.0)
    assert sent == ["7.1"]
    hearing.ask(110.0)
    assert sent == ["7.1", "7.2"]
    hearing.came("7.1")
    assert hearing.until == 100.0
    hearing.came("7.2")
    assert hearing.until == 110.0
    hearing.ask(111.0)
    assert sent[-1] == "7.3"


def test_others_probes_mean_nothing() -> None:
    """A probe of the reign before, or one told twice, changes nothing."""
    sent: list[str] = []
    hearing = Hearing("7", sent.append)
    hearing.ask(100.0)
    hearing.came("6.1")
    assert hearing.until == -inf
    hearing.came("7.1")
    hearing.ask(200.0)
    hearing.came("7.1")
    assert hearing.until == 100.0
