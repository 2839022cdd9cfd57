"""The manager goes on trying, whatever goes wrong between two leaderships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tefmanager.core.model.identity import Life
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.values import Moment
from tefmanager.interfaces.amqp import IConsumer, IPublisher
from tefmanager.interfaces.policy import Policy, Queues
from tefmanager.interfaces.store import ILeadership, SchemaTooNew
from tefmanager.service.manager import Manager


class Failing:
    """A store that fails in ways that no store should, then waits for ever."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def leadership(self, on_wait: Callable[[str], None], room: int = 0) -> ILeadership:
        """Fail, or wait."""
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        await Deferred()
        raise AssertionError("nobody fires that")


class Idle:
    """A consumer or publisher that does nothing."""

    def start(self, *_: object) -> None:
        """Do nothing."""

    async def cease(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


def no_reservations(_: Life) -> NoReturn:
    """There is no leadership, so nobody may ask for them."""
    raise AssertionError("reservations without a leadership")


def manager(store: Failing, clock: Clock, given_up: list[str]) -> Manager:
    """Return one that has nothing but this store."""

    def clocks() -> Moment:
        return Moment(clock.seconds(), clock.seconds(), datetime.fromtimestamp(clock.seconds(), UTC))

    return Manager(
        clock,
        clocks,
        cast(Any, store),
        cast(IConsumer, Idle()),
        cast(IPublisher, Idle()),
        no_reservations,
        Policy(Limits(), Queues(b"own", b"dead", b"rejected")),
        given_up.append,
    )


def test_an_unexpected_error_is_not_the_end(expected_errors: Callable[..., None]) -> None:
    """It is logged, and another leadership is tried for."""
    expected_errors(RuntimeError)
    clock, given_up = Clock(), list[str]()
    store = Failing([RuntimeError("one"), RuntimeError("two")])
    service = manager(store, clock, given_up)
    service.startService()
    clock.pump([0.1] * 100)
    assert (store.asked, given_up) == (3, [])
    stopped: list[object] = []
    service.stopService().addCallback(stopped.append)
    assert stopped == [None]


@pytest.mark.parametrize("before", [[], [RuntimeError("one")]])
def test_a_newer_schema_is_the_end(before: list[Exception], expected_errors: Callable[..., None]) -> None:
    """Trying again would not help."""
    expected_errors(RuntimeError)
    clock, given_up = Clock(), list[str]()
    store = Failing([*before, SchemaTooNew("too new")])
    service = manager(store, clock, given_up)
    service.startService()
    clock.pump([0.1] * 100)
    assert given_up == ["too new"]
    service.stopService()
