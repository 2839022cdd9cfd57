"""Waits for tasks to finish, and tells how each of them ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.tables import cell

AT_ONCE = 500
"""How many tasks are asked for together."""

UNFINISHED = "unfinished"
"""The state of a task that is not waited for any longer."""

UNKNOWN = "unknown"
"""The state of a task that has left history, or that nobody could be asked about."""

_PAUSE = 1.0
"""Seconds between two checks of tasks that are waited for."""

_FINISHED = ("completed", "stopped", "dead")

_BAD_RESULTS = ("failed", "error")


@dataclass(frozen=True)
class Ended:
    """How a task ended.

    Attributes:
        guid: its name.
        state: its outcome, `UNFINISHED` or `UNKNOWN`.
        result, message: what the worker said that completed it, or None.
        task_type, suite, received, attempts: as the manager knows them, or None.
        worker: who ended it, or had it last, or None.
        seconds: how long that attempt took, or None.
    """

    guid: str
    state: str
    result: str | None = None
    message: str | None = None
    task_type: str | None = None
    suite: str | None = None
    received: float | None = None
    attempts: int | None = None
    worker: str | None = None
    seconds: float | None = None

    @property
    def word(self) -> str:
        """What became of it, in one word: the result where there is one that says more."""
        return self.result if self.result in (*_BAD_RESULTS, "passed") else self.state

    @property
    def bad(self) -> bool:
        """Whether it was not completed, failed, or could not be judged."""
        return self.state != "completed" or self.result in _BAD_RESULTS


class Interrupted(Exception):
    """Somebody pressed Ctrl-C.

    Attributes:
        finished: states of the tasks that were finished by then.
    """

    def __init__(self, finished: Mapping[str, str]) -> None:
        super().__init__("interrupted")
        self.finished = finished


def wait_for(session: Session, wanted: Sequence[str], limit: float | None) -> dict[str, str]:
    """Wait until all tasks are finished; return their outcomes by guid. Raises `Interrupted`.

    After ``limit`` seconds, those that are not finished are `UNFINISHED`. If the manager or RabbitMQ goes
    away meanwhile, say so and wait for it: the tasks are safe.
    """
    outcomes: dict[str, str] = {}
    until = None if limit is None else time.monotonic() + limit
    try:
        _wait(session, wanted, outcomes, until)
    except KeyboardInterrupt:
        raise Interrupted(outcomes) from None
    return {guid: outcomes.get(guid, UNFINISHED) for guid in wanted}


def _wait(session: Session, wanted: Sequence[str], outcomes: dict[str, str], until: float | None) -> None:
    told = ""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("tasks", total=len(wanted))
        while len(outcomes) < len(wanted) and not _over(until):
            try:
                with session.broker() as broker:
                    for found in _looks(broker, wanted, outcomes, until):
                        outcomes.update(found)
                        progress.update(bar, completed=len(outcomes))
            except CtlError as error:
                if error.status not in (Exit.BROKER, Exit.MANAGER):
                    raise
                if str(error) != told:
                    console.print(cell(told := str(error)), soft_wrap=True)
                _pause(until)


def _looks(
    broker: Broker, wanted: Sequence[str], outcomes: dict[str, str], until: float | None
) -> Iterator[dict[str, str]]:
    """Query the tasks that have no outcome yet, again and again, until all have one or the time is over."""
    while left := [guid for guid in wanted if guid not in outcomes]:
        yield _finished(broker, left)
        if _over(until):
            return
        if len(outcomes) < len(wanted):
            _pause(until)


def _over(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until


def _pause(until: float | None) -> None:
    time.sleep(_PAUSE if until is None else max(0.0, min(_PAUSE, until - time.monotonic())))


def _finished(broker: Broker, guids: Sequence[str]) -> dict[str, str]:
    """Return the outcomes of finished tasks; for one that has left history, `UNKNOWN`."""
    found: dict[str, str] = {}
    for begin in range(0, len(guids), AT_ONCE):
        batch = guids[begin : begin + AT_ONCE]
        states = {
            task["guid"]: task["state"] for task in broker.ask("get_tasks", {"guids": batch})["tasks"]
        }
        for guid in batch:
            state = states.get(guid, UNKNOWN)
            if state in (*_FINISHED, UNKNOWN):
                found[guid] = state
    return found


def look_up(session: Session, states: Mapping[str, str]) -> list[Ended]:
    """Ask how tasks ended; ``states`` are those that are known already, by guid.

    What can't be asked for, because the manager or RabbitMQ is away, is left out of what is told.
    """
    try:
        with session.broker() as broker:
            details = _details(broker, list(states))
    except CtlError as error:
        if error.status not in (Exit.BROKER, Exit.MANAGER):
            raise
        Console(stderr=True).print(cell(f"results are not known: {error}"), soft_wrap=True)
        details = {}
    return [_ended(guid, state, details.get(guid)) for guid, state in states.items()]


def _details(broker: Broker, guids: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for begin in range(0, len(guids), AT_ONCE):
        batch = guids[begin : begin + AT_ONCE]
        questions = [json.dumps({"type": "get_task", "data": guid}).encode() for guid in batch]
        for guid, answer in zip(batch, broker.send(questions), strict=True):
            if isinstance(answer["response"], dict):
                found[guid] = answer["response"]
    return found


def _ended(guid: str, state: str, detail: Mapping[str, Any] | None) -> Ended:
    if detail is None:
        return Ended(guid, state)
    task = detail["task"]
    began = task["started"] or task["dispatched"]
    ends = [each["ended"] for each in detail["attempts"] if each["id"] == task["attempt"]]
    ended = ends[0] if ends else None
    return Ended(
        guid,
        state,
        task["result"],
        task["message"],
        task["task_type"],
        task["suite"],
        task["received"],
        task["attempts"],
        task["worker"],
        None if began is None or ended is None else max(0.0, ended - began),
    )
