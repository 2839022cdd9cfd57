"""Tasks per second of the other task queues, measured in the same two ways as ours.

*End to end* is from the first submit to the end of the last task, with workers running and warm.
*Draining*: all tasks are submitted before the workers start; from the start of the first task to the end of
the last one. The time that a program needs to start does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.case import Case
from benchmarks.peers.kinds import CELERY, DASK, DASK_PROCESSES, DRAMATIQ, PROCRASTINATE, Kind
from benchmarks.peers.runner import WARM_UP, Peer, open_peer
from benchmarks.results import Outcome
from benchmarks.scenarios.throughput import DRAINING, END_TO_END, GROUP, RATE
from benchmarks.services.bench import Bench, Options


@dataclass(frozen=True)
class Contender:
    """One of the other task queues in one configuration.

    Attributes:
        kind: which task queue.
        speed: about how many tasks per second; slow ones are measured with fewer tasks.
        confirm: each submit is confirmed by the broker.
        resources: how many resources each task needs.
    """

    kind: Kind
    speed: int
    confirm: bool = False
    resources: int = 0

    @property
    def facts(self) -> dict[str, str | int]:
        """What distinguishes it from the others."""
        kinds = {CELERY: self.confirm, DRAMATIQ: self.confirm}
        safe = "confirmed" if kinds.get(self.kind, self.kind is PROCRASTINATE) else "unconfirmed"
        return {"who": self.kind.name, "submits": safe, "resources": self.resources}


CONTENDERS = (
    Contender(CELERY, 1900),
    Contender(CELERY, 900, confirm=True),
    Contender(DRAMATIQ, 3000),
    Contender(DRAMATIQ, 1200, confirm=True),
    Contender(PROCRASTINATE, 500),
    Contender(DASK, 1300),
    Contender(DASK, 1900, resources=3),
    Contender(DASK_PROCESSES, 500),
    Contender(DASK_PROCESSES, 500, resources=3),
)


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    for contender in CONTENDERS:
        tasks = options.tasks if contender.speed > 450 else max(50, options.tasks * 2 // 5)
        for how in (END_TO_END, DRAINING):
            if how == END_TO_END or not contender.confirm:
                yield _case(contender, how, tasks)


def _case(contender: Contender, how: str, tasks: int) -> Case:
    measure = _end_to_end if how == END_TO_END else _draining
    facts = {"how": how, **contender.facts}
    seconds = (7 if contender.kind is CELERY else 3) + tasks / contender.speed
    return Case(GROUP, facts, seconds, RATE, lambda bench: _measured(bench, contender, measure, tasks))


def _measured(bench: Bench, contender: Contender, measure: Any, tasks: int) -> Outcome:
    resources = contender.resources
    with open_peer(bench, contender.kind, confirm=contender.confirm, resources=resources) as peer:
        return Outcome(measure(peer, tasks))


def _end_to_end(peer: Peer, tasks: int) -> dict[str, float]:
    peer.start_workers()
    peer.warm_up()
    submitted = peer.submitted(peer.submit(tasks))
    last = max(at for _, at in peer.wait(WARM_UP + tasks))
    span = submitted["last"] - submitted["first"]
    return {RATE: tasks / (last - submitted["first"]), "submits/s": tasks / span}


def _draining(peer: Peer, tasks: int) -> dict[str, float]:
    peer.submitted(peer.submit(tasks))
    peer.start_workers()
    times = [at for _, at in peer.wait(tasks)]
    return {RATE: (tasks - 1) / (max(times) - min(times))}
