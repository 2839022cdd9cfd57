"""Puts waiting tasks back into the manager's queue while no manager runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NoReturn

import pika

from tefmanager.config.config import Config
from tefmanager.core.model.endings import Finish, Outcome
from tefmanager.core.model.values import Changes, TaskRow, TaskState
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.coroutines import finished
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.interfaces.store import ILeadership, SchemaTooNew, StoreLost
from tefmanager.store import Store, lock_name_for, table_prefix_for
from tefmanager.support.outages import ANOTHER_IS_ACTIVE

AT_ONCE = 100
"""How many tasks are published before their rows move to history."""


def hand_back_waiting(config: Config, broker: Broker | None) -> tuple[int, int]:
    """Publish waiting tasks and move their rows; return how many, and how many tasks do not wait.

    Without a broker they are only counted. After a crash, one portion may be published twice. Can be called
    once in a process. Raises `CtlError`, also if a manager is active.
    """
    try:
        return finished(lambda reactor: _work(reactor, config, broker))
    except (StoreLost, SchemaTooNew) as error:
        raise CtlError(Exit.DATABASE, f"PostgreSQL: {error}") from None


async def _work(reactor: Any, config: Config, broker: Broker | None) -> tuple[int, int]:
    table_prefix = table_prefix_for(config.env, config.name_prefix)
    store = Store(reactor, config.database, table_prefix, lock_name_for(config.env, config.name_prefix))
    leadership = await store.leadership(_refuse)
    try:
        tasks = (await leadership.load()).tasks
        waiting = [task for task in tasks if task.state is TaskState.WAITING]
        if broker is not None:
            broker.channel.confirm_delivery()
            for begin in range(0, len(waiting), AT_ONCE):
                await _move(leadership, broker, waiting[begin : begin + AT_ONCE])
        return len(waiting), len(tasks) - len(waiting)
    finally:
        await leadership.end()


def _refuse(why: str) -> NoReturn:
    """Fail instead of waiting for the lock."""
    raise CtlError(Exit.DATABASE, f"{why}; stop all managers" if why.startswith(ANOTHER_IS_ACTIVE) else why)


async def _move(leadership: ILeadership, broker: Broker, tasks: Sequence[TaskRow]) -> None:
    bodies = await leadership.commit(Changes(bodies=[task.spec.id for task in tasks]))
    for task in tasks:
        broker.channel.basic_publish(
            "",
            broker.config.in_queue,
            bodies[task.spec.id],
            pika.BasicProperties(content_type="application/json", delivery_mode=2),
            mandatory=True,
        )
    now = time.time()
    await leadership.commit(
        Changes(finished={task.spec.id: Finish(Outcome.STOPPED, now) for task in tasks})
    )
