"""Judges what became of what workers said: it is kept where it belongs, told, and has its consequences.

Like the judge, it shares no code with the core. It reads rows and log lines as anybody could.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tests.simulation.broker import Broker
from tests.simulation.observer import Observer
from tests.simulation.world import START

if TYPE_CHECKING:
    from tefmanager.core.model.values import AttemptRow
    from tests.fakes.store import FakeDatabase, FinishedTask, Rows
    from tests.simulation.voices import Saying

GONE = ("missing", "stalled")
"""Workers with such a status do not count where another one is looked for."""

RESULTS = ("passed", "failed", "error", "unknown")


def _kept(row: AttemptRow) -> tuple[object, ...]:
    return row.result, row.message, None if row.details is None else json.loads(row.details)


class Verdicts:
    """Checks after each commit, and at the end."""

    def __init__(self, observer: Observer, database: FakeDatabase, broker: Broker) -> None:
        self._observer = observer
        self._database = database
        self._broker = broker
        self._shuns: dict[int, set[str]] = {}
        self._looked_into: set[int] = set()

    # --- after each commit ---

    def committed(self) -> None:
        """A task that was to be tried elsewhere goes elsewhere as long as somebody else is there."""
        rows = self._database.rows
        for id in rows.attempts.keys() - self._looked_into:
            self._looked_into.add(id)
            if rows.attempts[id].end == "environment":
                self._blamed(rows, rows.attempts[id])
        for id, shunned in list(self._shuns.items()):
            self._stays_away(rows, id, shunned)

    def _blamed(self, rows: Rows, row: AttemptRow) -> None:
        if row.task_id in rows.tasks:
            self._shuns.setdefault(row.task_id, set()).add(row.worker)

    def _stays_away(self, rows: Rows, id: int, shunned: set[str]) -> None:
        task = rows.tasks[id][0] if id in rows.tasks else None
        if task is None or not self._others(rows, id, shunned):
            del self._shuns[id]
        elif task.state == "dispatched" and task.worker in shunned:
            del self._shuns[id]
            self._observer.object(f"{task.spec.guid} went to {task.worker} again, though others are there")

    def _others(self, rows: Rows, id: int, shunned: set[str]) -> bool:
        """Tell whether there is anybody else whom the task could go to."""
        task = rows.tasks[id][0]
        return any(
            worker.worker_type == task.spec.task_type
            and worker.status not in GONE
            and worker.name not in shunned.union(task.avoid)
            for worker in rows.workers.values()
        )

    # --- in the log ---

    def logged(self, line: str) -> None:
        """The counts of a suite that has finished are those of history, and add up."""
        event, *fields = line.split("|")
        if event != "SUITE_FINISHED":
            return
        suite, completed, stopped, dead, *results = fields
        tasks = [task for task in self._database.rows.history.values() if task.row.spec.suite == suite]
        outcomes = Counter(str(task.outcome) for task in tasks)
        found = Counter(str(task.result) for task in tasks)
        if sum(map(int, results)) != int(completed):
            self._observer.object(f"the results of suite {suite} do not add up: {line}")
        if [*map(int, (completed, stopped, dead))] != [
            outcomes[o] for o in ("completed", "stopped", "dead")
        ]:
            self._observer.object(f"suite {suite} ended otherwise: {line}")
        if [*map(int, results)] != [found[result] for result in RESULTS]:
            self._observer.object(f"the results of suite {suite} are others: {line}")

    # --- when all is over ---

    def judge(self, time: float) -> None:
        """Record what went wrong. What is dated after ``time`` was dated by a wrong clock."""
        for task in self._database.rows.history.values():
            self._kept_with_its_task(task)
        for row in self._database.rows.attempts.values():
            self._kept_with_its_attempt(row)
        self._asked_for()
        self._heard(time)

    def _kept_with_its_task(self, task: FinishedTask) -> None:
        """What history has is what one of those has said who did the task; of any other end, nothing."""
        guid = task.row.spec.guid
        told = [saying.kept[:2] for saying in self._sayings(guid) if not saying.retry]
        if task.outcome != "completed":
            told = [(None, None)]
        if (task.result, task.message) not in told:
            self._observer.object(f"of {guid} is kept {task.result}, {task.message!r}, which nobody said")

    def _kept_with_its_attempt(self, row: AttemptRow) -> None:
        """What an attempt's row has is what its worker has said of this task."""
        mine = [saying for saying in self._sayings(row.guid) if saying.worker == row.worker]
        told = [saying.kept for saying in mine if saying.retry == (row.end == "environment")]
        if row.end not in ("completed", "environment"):
            told.append((None, None, None))
        if _kept(row) not in told:
            said = f"{row.result}, {row.message!r}"
            self._observer.object(
                f"attempt {row.id} of {row.guid} is kept with {said}, not of {row.worker}"
            )

    def _sayings(self, guid: str) -> Iterable[Saying]:
        return (saying for saying in self._observer.said if saying.guid == guid)

    def _asked_for(self) -> None:
        """An attempt ends as *environment* as often as its worker asked for that, and counts."""
        asked = Counter((saying.worker, saying.guid) for saying in self._observer.said if saying.retry)
        ended = [row for row in self._database.rows.attempts.values() if row.end == "environment"]
        for who, count in Counter((row.worker, row.guid) for row in ended).items():
            if count > asked[who]:
                self._observer.object(
                    f"{who[0]} asked {asked[who]} times to try {who[1]} elsewhere, not {count}"
                )
        numbers = Counter((row.task_id, row.number) for row in self._database.rows.attempts.values())
        for row in ended:
            if numbers[row.task_id, row.number] > 1:
                self._observer.object(f"attempt {row.id} of {row.guid} does not count")

    def _heard(self, time: float) -> None:
        """A wish that was heard first-hand while its attempt was live has ended that attempt."""
        came, heard = (self._when(times) for times in (self._broker.wishes_came, self._broker.wishes_heard))
        rows = self._database.rows.attempts
        for saying in self._observer.said:
            row = rows.get(saying.attempt)
            why = saying.fields.get("message", "")
            if saying.retry and row is not None and row.end != "environment" and why in heard:
                since = came[why] if row.end == "given_up" else heard[why]
                if since < row.ended - START <= time:
                    what = f"{saying.worker} blamed its surroundings in attempt {row.id}"
                    self._observer.object(f"{what}, which ended as {row.end}")

    def _when(self, times: Mapping[bytes, float]) -> dict[str, float]:
        return {json.loads(body)["message"]: at for body, at in times.items()}
