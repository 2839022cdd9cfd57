"""Silence counts only when it is certain."""

from __future__ import annotations

from math import inf

import pytest

from tefmanager.engine.liveness import PROBE_INTERVAL, Liveness, LivenessCheck
from tefmanager.support.outages import Service
from tests.unit.support.outages import Told


def test_a_probe_tells_up_to_when_all_was_heard() -> None:
    """What was said before the probe was sent has been heard when it comes back, however late."""
    sent: list[str] = []
    liveness = Liveness("7", sent.append)
    assert liveness.until == -inf
    assert liveness.ask(100.0) == 100.0 + PROBE_INTERVAL
    liveness.came(sent[0])
    assert liveness.until == 100.0


def test_one_probe_at_a_time() -> None:
    """While one is under way no other is sent, until it must be taken for lost."""
    sent: list[str] = []
    liveness = Liveness("7", sent.append)
    liveness.ask(100.0)
    liveness.ask(105.0)
    assert sent == ["7.1"]
    liveness.ask(110.0)
    assert sent == ["7.1", "7.2"]
    liveness.came("7.1")
    assert liveness.until == 100.0
    liveness.came("7.2")
    assert liveness.until == 110.0
    liveness.ask(111.0)
    assert sent[-1] == "7.3"


def test_others_probes_mean_nothing() -> None:
    """A probe of the leadership before, or one told twice, changes nothing."""
    sent: list[str] = []
    liveness = Liveness("7", sent.append)
    liveness.ask(100.0)
    liveness.came("6.1")
    assert liveness.until == -inf
    liveness.came("7.1")
    liveness.ask(200.0)
    liveness.came("7.1")
    assert liveness.until == 100.0


class Rig:
    """A manager's ears, with a broker that brings probes back as long as it is wanted."""

    def __init__(self) -> None:
        self.told = Told()
        self.outages = self.told.outages
        self.works = True
        self.sent = 0
        self.delivered = 0
        self.renewed: list[float] = []
        self.liveness = Liveness("7", self._send)
        self.probed = "it was nacked"
        self._liveness_check = LivenessCheck(self.liveness, self.outages, self, self._renew, lambda: 0.0)

    def _send(self, token: str) -> None:
        self.sent += 1
        if self.works:
            self.delivered += 1
            self.liveness.came(token)

    def _renew(self, reason: str) -> None:
        self.renewed.append(self.told.time)

    def wait(self, seconds: int, delivered: int = 0) -> list[str]:
        """Let some seconds pass, in each of which so much is delivered; return what was logged."""
        for _ in range(seconds):
            self.told.time += 1
            self.delivered += delivered
            self._liveness_check.look(self.told.time, self.delivered)
            self.outages.remind()
        return self.told.logged()


def test_a_manager_that_nobody_judges_by_probes_itself_regularly() -> None:
    """Every five seconds; nothing is told while they come back."""
    rig = Rig()
    assert (rig.wait(60), rig.sent, rig.renewed) == ([], 12, [])


def test_deafness_is_noticed_within_half_a_minute() -> None:
    """It is told with what is known of the probe, the connections are made anew, and its end is told."""
    rig = Rig()
    rig.wait(60)
    rig.works = False
    [line] = rig.wait(30)
    assert line.startswith(
        "WAITING_FOR|probe: the manager's own message does not come back: it was nacked|"
    )
    assert len(rig.renewed) == 1
    rig.works = True
    assert [line.split("|")[0] for line in rig.wait(10)] == ["WAITED_FOR"]
    assert rig.outages.now() == ()


def test_connections_are_not_made_anew_all_the_time() -> None:
    """The pauses grow to five minutes; the probe is told of every half minute all the while."""
    rig = Rig()
    rig.works = False
    lines = rig.wait(3600)
    pauses = [later - sooner for sooner, later in zip(rig.renewed, rig.renewed[1:], strict=False)]
    assert pauses[:4] == [24.0, 48.0, 96.0, 192.0]
    assert set(pauses[4:]) == {300.0}
    assert 115 <= len(lines) <= 122


def test_a_manager_that_is_behind_is_not_deaf() -> None:
    """While messages come new connections would only bring them again; that it is behind is told."""
    rig = Rig()
    rig.works = False
    [line] = rig.wait(50, delivered=1)
    assert "still behind others in the queue" in line
    assert rig.renewed == []


@pytest.mark.parametrize("service", [Service.CONSUMER, Service.PUBLISHER, Service.BLOCKED])
def test_where_it_is_clear_why_nothing_comes(service: Service) -> None:
    """A connection that is away, or blocked, is no deafness, and has its time when it is back."""
    rig = Rig()
    rig.works = False
    rig.outages.began(service, "away", quiet=True)
    assert all(f"|{service}" in line for line in rig.wait(600))
    rig.outages.over(service)
    rig.told.logged()
    assert rig.wait(20) == []
    assert rig.renewed == []
    rig.wait(10)
    assert len(rig.renewed) == 1


def test_probes_that_do_not_come_back_are_not_remembered_for_ever() -> None:
    """Only the last ones are, and since when none has come back."""
    rig = Rig()
    rig.works = False
    rig.wait(10_000)
    assert rig.liveness.unanswered == 1.0
    assert len(rig.liveness._sent) <= 100
