"""What is away is told when it begins, while it lasts, and when it is over; and no more often."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from twisted.internet.defer import Deferred

from tefmanager import inquiry
from tefmanager.core.model import effects, events
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tefmanager.support.outages import (
    ANOTHER_IS_ACTIVE,
    CONFIRM,
    MEANING,
    NOT_YET,
    RELEASE,
    TURN,
    Outage,
    Service,
    Steps,
)
from tefmanager.support.taskgroup import TaskGroup
from tests.unit.grid import Grid
from tests.unit.support.outages import Told


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


def test_steps_that_follow_on_each_other() -> None:
    """Each is one of its own: leaderships that end at once, again and again, are none that does not end."""
    told = Told()
    for _ in range(20):
        told.outages.began(Service.STEP, "the end of a leadership", "end", quiet=True)
        told.outages.drop(Service.STEP)
        assert told.wait(3) == []
    told.outages.began(Service.STEP, "the end of a leadership", "end", quiet=True)
    assert told.wait(29) == []
    assert told.wait(1) == ["WAITING_FOR|the end of a leadership|30"]


def test_steps_that_do_not_end() -> None:
    """Each is told since it began, and when it is over; where it is clear why not, that is told already."""
    told = Told(100.0)
    steps = Steps(told.outages)
    steps.look({CONFIRM: 25.0})
    told.wait(5)
    assert [(each.cause, each.since) for each in told.outages.now()] == [(CONFIRM, 1075.0)]
    told.outages.began(Service.ETCD, "away", quiet=True)
    steps.look({RELEASE: 25.0, TURN: 30.0})
    assert told.logged() == [f"WAITED_FOR|step {CONFIRM}|30", f"WAITING_FOR|{TURN}|30"]
    assert [each.service for each in told.outages.now()] == ["step", "etcd"]
    steps.look({})
    assert [each.service for each in told.outages.now()] == ["etcd"]


def test_what_a_task_group_waits_for() -> None:
    """The oldest of each kind counts, in looks; what is younger is not told."""
    task_group = TaskGroup(lambda failure: failure.raiseException())
    waiting: list[Deferred[None]] = [Deferred() for _ in range(3)]

    async def wait(number: int) -> None:
        await waiting[number]

    task_group.run(wait(0), "a")
    assert task_group.look(2) == {}
    task_group.run(wait(1), "b")
    task_group.run(wait(2), "a")
    assert task_group.look(2) == {"a": 2}
    assert task_group.look(2) == {"a": 3, "b": 2}
    waiting[0].callback(None)
    assert task_group.look(2) == {"b": 3, "a": 3}
    task_group.cancel()


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


# --- what is asked ---


def explained(grid: Grid, told: Told) -> inquiry.Explanation:
    """Explain task A."""
    found = inquiry.explain(grid.core, "A", grid.now, None, told.outages.now())
    assert found is not None
    return found


def test_the_status_has_all_outages() -> None:
    """Whoever asks how the manager stands need not look into its log."""
    told = Told()
    told.outages.began(Service.QUEUE, "a message was nacked", "dead")
    status = inquiry.status(Grid().core, Grid().now, told.outages.now())
    assert [(each.service, each.about, each.since) for each in status.outages] == [
        ("queue", "dead", 1000.0)
    ]


@pytest.mark.parametrize("cause", ["HTTP 403: permission denied", "HTTP 404: 404 page not found"])
def test_why_etcd_can_not_be_read(cause: str) -> None:
    """A task that needs resources is explained by the cause as the log has it, and since when."""
    grid = Grid(resources={"r": Resource("r", limit=1)}).say("w", "idle")
    grid.turn(events.ResourcesLost("gone")).submit("A", resources=["r"])
    told = Told()
    told.outages.began(Service.ETCD, f"etcd h:1: {cause}")
    told.time = 65.0
    [reason] = explained(grid, told).reasons
    assert (reason.kind, reason.since) == ("etcd_away", 1000.0)
    assert reason.text == f"etcd h:1: {cause}, for 65 s: {MEANING[Service.ETCD]}"


@pytest.mark.parametrize(
    "service", [Service.CONSUMER, Service.PUBLISHER, Service.BLOCKED, Service.PROBE, Service.ETCD]
)
def test_what_is_away_that_a_task_does_not_need(service: Service) -> None:
    """RabbitMQ concerns every task, waiting or sent; Etcd only those that need resources."""
    told = Told()
    told.outages.began(service, "away")
    expected = [] if service is Service.ETCD else ["rabbitmq_away"]
    grid = Grid().submit("A")
    assert [each.kind for each in explained(grid, told).reasons] == [*expected, "no_worker"]
    grid.say("w", "idle")
    found = explained(grid, told)
    assert (found.task.state, [each.kind for each in found.reasons]) == ("dispatched", expected)
    assert ("away" in found.text) == bool(expected)


class Full(Grid):
    """A grid whose dead queue takes nothing."""

    def _answers(self, effect: effects.Effect) -> list[events.Event]:
        return [] if isinstance(effect, effects.DeadLetter) else super()._answers(effect)


def test_a_dead_queue_that_takes_nothing() -> None:
    """A task on its way there is explained by what keeps it."""
    grid = Full(Limits(max_attempts=1)).say("w", "idle").submit("A").say("w", "working").say("w", "offline")
    told = Told()
    told.outages.began(Service.QUEUE, "a message was nacked", "tef.dead")
    found = explained(grid, told)
    assert (found.task.state, [each.kind for each in found.reasons]) == (
        "dead_lettering",
        ["queue_refuses"],
    )
    assert "queue tef.dead: a message was nacked, for 0 s: " in found.text
    for state, kinds in (("dead", ["queue_refuses"]), ("completed", [])):
        over = inquiry.explain_finished(replace(found.task, state=state), told.outages.now())
        assert [each.kind for each in over.reasons] == kinds


def test_a_value_that_can_not_be_read() -> None:
    """A resource that is closed by it is explained by what stands there, and what is expected."""
    fault = "ref_limit is 'many', expected a whole number, or -1 for no limit"
    grid = Grid(resources={"r": Resource("r", limit=0, faults=(fault,))}).say("w", "idle")
    [reason] = explained(grid.submit("A", resources=["r"]), Told()).reasons
    assert reason.text == f"resource r is closed: its limit is 0 now; {fault}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (121, "2 minutes"), (7300, "2 hours"), (1e6, "11 days")],
)
def test_how_long_it_lasts_in_words(seconds: float, text: str) -> None:
    """In the largest unit of which there are two."""
    told = Told()
    told.outages.began(Service.ETCD, "etcd: away")
    told.time = seconds
    assert told.outages.now()[0].sentence.startswith(f"etcd: away, for {text}: ")
