"""Finds out whether a worker's queue still has a consumer, so that a killed worker's task is not stuck.

Nobody can ask a worker whether it is alive, but the broker knows who consumes its queue. The broker is
asked about workers that begin a task, to learn how they consume; and about silent ones, if somebody waits
for what they hold. A worker is gone when two checks have found no consumer, and it has said nothing
meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.audience import Audience
from tefmanager.core.model.effects import LookAt
from tefmanager.core.model.entities import Attempt, Phase, Worker
from tefmanager.core.model.events import Looked
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.departures import Departures
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.pool import Pool

SILENT = 21.5
"""Seconds of silence: workers say something every 20."""

APART = 14.0
"""Seconds between two checks that find no consumer: clients that lost their connection retry after five."""

AGAIN = 5.0
"""Seconds of silence before a check, and between two checks that find a consumer."""

PERIOD = 3.0
"""Seconds between two rounds through the silent workers."""

LEARN_AGAIN = 60.0
"""Seconds between two checks of a worker that only serve to learn how it consumes."""


class Lookout:
    """Asks about one queue at a time, and removes workers that no longer consume theirs.

    Some workers fetch each message, or cancel their consumer while they work. So a worker that works is
    judged only if a consumer was seen while it worked; a worker that has not begun is judged only if any
    consumer was seen and the message is still in the queue.
    """

    def __init__(
        self,
        ledger: Ledger,
        workers: Workers,
        pool: Pool,
        timers: Timers,
        attempts: Attempts,
        departures: Departures,
    ) -> None:
        self._ledger = ledger
        self._workers = workers
        self._pool = pool
        self._timers = timers
        self._attempts = attempts
        self._departures = departures
        self._armed = False
        self._asked: tuple[Worker, Attempt] | None = None
        self._urgent: deque[Worker] = deque()

    def plan(self, now: Moment) -> None:
        """Ask about the next queue, unless an answer is pending."""
        if self._attempts.in_flight and not self._armed:
            self._armed = True
            self._timers.at(now.monotonic + PERIOD, self._look_round)
        while self._asked is None and (worker := self._next(now)) is not None:
            self._ask(worker, now)

    def _next(self, now: Moment) -> Worker | None:
        if self._urgent:
            return self._urgent.popleft()
        begun = self._attempts.begun
        while begun:
            worker = next(iter(begun))
            del begun[worker]
            if self._to_learn(worker, now):
                return worker
        return None

    def _to_learn(self, worker: Worker, now: Moment) -> bool:
        live, seen = worker.live, worker.seen
        if live is None:
            return False
        long_ago = now.monotonic >= seen.looked + LEARN_AGAIN
        if live.phase is Phase.WORKING:
            return not seen.stays and (long_ago or not seen.learned)
        return not seen.consumed and long_ago

    def _ask(self, worker: Worker, now: Moment) -> None:
        live = worker.live
        if live is not None and self._workers.get(worker.name) is worker:
            worker.seen.looked = now.monotonic
            self._asked = (worker, live)
            self._ledger.do(LookAt(worker.name, worker.exchange_name))

    def looked(self, event: Looked, now: Moment) -> None:
        """Handle the broker's answer about a worker's queue, or the lack of one."""
        if self._asked is None or self._asked[0].name != event.worker:
            return
        (worker, attempt), self._asked = self._asked, None
        found = event.found
        if found is None or worker.live is not attempt:
            return
        seen = worker.seen
        seen.learned = seen.learned or attempt.phase is Phase.WORKING
        if found.consumers:
            seen.consumed, seen.deserted = True, None
            seen.stays = seen.stays or attempt.phase is Phase.WORKING
        elif not _tells(attempt, found):
            seen.deserted = None
        elif seen.deserted is None or worker.heard >= seen.deserted:
            seen.deserted = seen.deserted_last = now.monotonic
        else:
            seen.deserted_last = now.monotonic

    # --- silent ones ---

    def _look_round(self, now: Moment) -> None:
        """Remove workers that are gone, and check silent ones; everything said by ``now`` was heard."""
        self._armed = False
        self._urgent.clear()
        for attempt in list(self._silent(now)):
            worker = attempt.worker
            if self._gone(worker, now):
                self._departures.deserted(worker, now)
            elif now.monotonic >= worker.seen.looked + (AGAIN if worker.seen.deserted is None else APART):
                self._urgent.append(worker)

    def _silent(self, now: Moment) -> Iterator[Attempt]:
        """Iterate over attempts of silent workers that others wait for, if it is known how they consume."""
        waited: set[str] | None = None
        for attempt in self._attempts.in_flight.values():
            worker, seen = attempt.worker, attempt.worker.seen
            if now.monotonic < worker.heard + AGAIN:
                continue
            if attempt.phase is Phase.DISPATCHED:
                if seen.consumed:
                    yield attempt
            elif seen.stays:
                waited = self._waited() if waited is None else waited
                if waited.intersection(attempt.task.spec.resources) or self._others(attempt):
                    yield attempt

    def _waited(self) -> set[str]:
        return {name for wait in self._pool.waits.values() for name in wait.task.spec.resources}

    def _others(self, attempt: Attempt) -> bool:
        """Tell whether another worker could take the task at once."""
        spec, avoid = attempt.task.spec, attempt.task.avoid
        return any(worker.name not in avoid for worker in self._workers.free(spec.task_type))

    def _gone(self, worker: Worker, now: Moment) -> bool:
        seen = worker.seen
        if seen.deserted is None or worker.heard >= seen.deserted:
            return False
        looks = seen.deserted_last - seen.deserted >= APART and now.monotonic >= seen.deserted_last
        return looks and now.monotonic >= worker.heard + SILENT


def _tells(attempt: Attempt, found: Audience) -> bool:
    """Tell whether a lack of consumers proves anything: the message may already be with the worker."""
    if attempt.phase is Phase.WORKING:
        return attempt.worker.seen.stays
    return attempt.worker.seen.consumed and (found.messages > 0 or not found.there)
