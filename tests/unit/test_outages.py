"""What is away is told when it begins, while it lasts, and when it is over; and no more often."""

from __future__ import annotations

import pytest

from tefmanager.inquiry.outages import ANOTHER_IS_ACTIVE, MEANING, NOT_YET, Outage, Service
from tests.unit.outages import Told


def test_an_outage_from_its_beginning_to_its_end() -> None:
    """It is logged at once, every 30 seconds, and when it is over."""
    told = Told()
    told.outages.began(Service.QUEUE, "a message was nacked", "dead")
    assert told.logged() == ["WAITING_FOR|queue dead: a message was nacked|0"]
    assert told.wait(29) == []
    assert told.wait(1) == ["WAITING_FOR|queue dead: a message was nacked|30"]
    assert told.wait(29) == []
    told.outages.over(Service.QUEUE, about="dead")
    assert told.logged() == ["WAITED_FOR|queue dead|59"]
    assert told.wait(100) == []


def test_what_is_known_of_an_outage() -> None:
    """What, since when, for how long, why, and what it means for tasks; the longest is the first."""
    told = Told(5.0)
    told.outages.began(Service.ETCD, "etcd h:1: HTTP 403")
    told.time = 8.0
    told.outages.began(Service.QUEUE, "full", "dead")
    assert told.outages.now() == (
        Outage("etcd", "", "etcd h:1: HTTP 403", 1005.0, 3.0, MEANING[Service.ETCD]),
        Outage("queue", "dead", "full", 1008.0, 0.0, MEANING[Service.QUEUE]),
    )
    assert [each.service for each in told.outages.now(Service.QUEUE)] == ["queue"]
    assert told.outages.away(Service.QUEUE, Service.PROBE)
    told.outages.over(Service.QUEUE, about="dead")
    assert not told.outages.away(Service.QUEUE, Service.PROBE)


def test_every_service_has_a_meaning() -> None:
    """Nobody has to guess what an outage does to tasks."""
    assert MEANING.keys() == set(Service)


def test_one_that_another_line_tells_of() -> None:
    """It is logged when it lasts for 30 seconds; a short one leaves no line, and neither does its end."""
    told = Told()
    told.outages.began(Service.CONSUMER, "refused", quiet=True)
    assert told.wait(29) == []
    told.outages.over(Service.CONSUMER)
    assert told.wait(60) == []
    told.outages.began(Service.CONSUMER, "refused", quiet=True)
    assert told.wait(30) == ["WAITING_FOR|consumer: refused|30"]
    told.outages.over(Service.CONSUMER)
    assert told.logged() == ["WAITED_FOR|consumer|30"]


def test_another_cause_is_told_at_once() -> None:
    """But not one that was told already, and since when it is away stays."""
    told = Told()
    told.outages.began(Service.DATABASE, "database h:1: refused")
    told.time = 10.0
    told.outages.began(Service.DATABASE, "database h:1: starting up")
    assert told.logged() == [
        "WAITING_FOR|database h:1: refused|0",
        "WAITING_FOR|database h:1: starting up|10",
    ]
    told.outages.began(Service.DATABASE, "database h:1: refused")
    assert told.logged() == []
    assert told.wait(30) == ["WAITING_FOR|database h:1: refused|40"]


def test_causes_without_end() -> None:
    """A cause that is another one each time is no flood of lines."""
    told = Told()
    for number in range(1000):
        told.outages.began(Service.ETCD, f"etcd: no {number}")
    assert len(told.logged()) == 8
    assert told.wait(30) == ["WAITING_FOR|etcd: no 999|30"]


def test_one_that_comes_and_goes() -> None:
    """It is one outage, told every 30 seconds, and away since the first time."""
    told = Told()
    lines = []
    for _ in range(20):
        told.outages.began(Service.DATABASE, "database: no space left")
        lines += told.wait(3)
        told.outages.over(Service.DATABASE)
        lines += told.wait(3)
    assert len(lines) <= 2 * (1 + 120 // 30)
    told.outages.began(Service.DATABASE, "database: no space left")
    [outage] = told.outages.now()
    assert outage.since == 1000.0
    told.outages.over(Service.DATABASE)
    told.wait(31)
    told.outages.began(Service.DATABASE, "database: no space left")
    assert told.outages.now()[0].since == 1000.0 + told.time


def test_what_is_needed_no_more() -> None:
    """It is neither away nor said to be there."""
    told = Told()
    told.outages.began(Service.ETCD, "refused")
    told.logged()
    told.outages.drop(Service.ETCD)
    assert (told.outages.now(), told.wait(100)) == ((), [])


def test_a_step_counts_when_it_has_lasted() -> None:
    """Steps take their time; one that takes too long is shown, and logged."""
    told = Told()
    told.outages.began(Service.STEP, "Etcd's answer to a release", "release", quiet=True)
    assert (told.wait(29), told.outages.now()) == ([], ())
    assert told.wait(1) == ["WAITING_FOR|Etcd's answer to a release|30"]
    assert len(told.outages.now()) == 1


@pytest.mark.parametrize(
    ("what", "service"),
    [
        (f"{ANOTHER_IS_ACTIVE}: at 10.0.0.1", Service.STANDBY),
        ("database h:1: refused", Service.DATABASE),
    ],
)
def test_what_keeps_a_manager_from_leading(what: str, service: Service) -> None:
    """Another manager, or the database: one of them at a time; a leader then waits for the others."""
    told = Told()
    told.outages.began(Service.DATABASE, NOT_YET, quiet=True)
    told.outages.leadership_awaited(what)
    assert [(each.service, each.cause) for each in told.outages.now()] == [(service, what)]
    assert told.logged() == [f"WAITING_FOR|{what}|0"]
    told.outages.leadership_gained()
    assert [each.service for each in told.outages.now()] == ["consumer", "etcd"]
