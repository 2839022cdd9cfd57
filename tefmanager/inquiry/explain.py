"""Explains why a task is not running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from tefmanager.core.blockers import FAULTS_TOLD
from tefmanager.core.core import Core
from tefmanager.core.model.entities import Task
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import Moment, TaskRow, TaskState
from tefmanager.inquiry.answers import Explanation, Reason, TaskInfo
from tefmanager.inquiry.resource_answers import holders, not_ours, waiter
from tefmanager.inquiry.status_answers import LOOK_AT
from tefmanager.inquiry.task_answers import held_back, task_in_memory
from tefmanager.protocol.messages import ManagerState
from tefmanager.support.outages import Outage, Service

_AWAY = {
    Service.PUBLISHER: "rabbitmq_away",
    Service.BLOCKED: "rabbitmq_away",
    Service.CONSUMER: "rabbitmq_away",
    Service.PROBE: "rabbitmq_away",
    Service.ETCD: "etcd_away",
    Service.QUEUE: "queue_refuses",
}
"""Outages that may keep a task waiting, with their kind of reason."""

_RABBITMQ = (Service.PUBLISHER, Service.BLOCKED, Service.CONSUMER, Service.PROBE)


def explain(
    core: Core, guid: str, now: Moment, row: TaskRow | None = None, outages: Sequence[Outage] = ()
) -> Explanation | None:
    """Explain a task that is not finished; return None if there is none with this guid.

    ``row`` is the row of an unread task: it counts only if the task is not in memory. ``outages`` are all
    present ones.
    """
    task = core.backlog.by_guid.get(guid)
    if task is None:
        if row is None or row.state is not TaskState.WAITING:
            return None
        task = Task(row.spec, row.attempts, frozenset(row.avoid))
    info = task_in_memory(core, task)
    if info.state not in ("waiting", "reserving"):
        concerned = (Service.QUEUE,) if info.state == "dead_lettering" else _RABBITMQ
        return _explained(info, _with_worker(core, info), _away(outages, *concerned))
    if info.state == "reserving":
        asked = Reason("reserving", f"its resources are being reserved for worker {info.worker}")
        away = _away(outages, Service.ETCD)
        return _explained(info, asked.text, away, (asked, *away))
    reasons = (*_away(outages, *_RABBITMQ), *_reasons(core, task, now, outages))
    ahead, complete = _ahead(core, task)
    if not reasons:
        reasons = (Reason("turn", _tasks_ahead(ahead, complete)),)
    return Explanation(info, reasons, ahead, complete, "; ".join(reason.text for reason in reasons))


def _explained(
    info: TaskInfo, text: str, away: Sequence[Reason], reasons: Sequence[Reason] | None = None
) -> Explanation:
    """Explain a task that does not wait, and name the outages of services that it needs."""
    told = "; ".join([text, *(each.text for each in away)])
    return Explanation(info, tuple(away if reasons is None else reasons), None, True, told)


def _away(outages: Sequence[Outage], *services: Service) -> tuple[Reason, ...]:
    """Return the outages of these services as reasons."""
    return tuple(
        Reason(_AWAY[Service(each.service)], each.sentence, since=each.since)
        for each in outages
        if each.service in services
    )


def explain_finished(info: TaskInfo, outages: Sequence[Outage] = ()) -> Explanation:
    """Explain a task in history. The copy of a dead one may wait for a queue that refuses it."""
    attempts = f"{info.attempts} attempt{'s' if info.attempts != 1 else ''}"
    away = _away(outages, Service.QUEUE) if info.state == "dead" else ()
    return _explained(info, f"it is finished: {info.state} after {attempts}", away)


def _with_worker(core: Core, info: TaskInfo) -> str:
    match info.state:
        case "dispatched" if info.attempt in core.attempts.unconfirmed:
            return f"it was sent to worker {info.worker}; RabbitMQ has not confirmed that it has it"
        case "dispatched":
            return f"it was sent to worker {info.worker}, which has not begun it"
        case "working":
            return f"worker {info.worker} works on it"
        case _:
            return "it is out of attempts and goes to the dead queue"


def _tasks_ahead(ahead: int, complete: bool) -> str:
    if not ahead:
        return "nothing keeps it: it goes next"
    if ahead == 1 and complete:
        return "1 task of its type goes before it"
    return f"{'' if complete else 'at least '}{ahead} tasks of its type go before it"


def _reasons(core: Core, task: Task, now: Moment, outages: Sequence[Outage]) -> Iterator[Reason]:
    if core.state is not ManagerState.RUNNING:
        yield Reason("manager_paused", f"the manager is {core.state.value}")
    suite = task.spec.suite
    if suite is not None and suite in core.backlog.paused:
        yield Reason("suite_paused", f"its suite {suite} is paused")
    if core.backlog.sweeping(task):
        yield Reason("suite_stopping", f"its suite {suite} is being stopped, and so is this task")
    elif suite in core.backlog.sweeps:
        yield Reason("suite_stopping", f"earlier tasks of its suite {suite} are being stopped")
    if (held := held_back(core, task)) is not None:
        again = max(0.0, held.until - now.monotonic)
        yield Reason("held_back", f"it is held back: {held.reason}; it is tried again in {again:.0f} s")
    yield from worker_reasons(core, task)
    yield from _unconfirmed(core, task)
    yield from resource_reasons(core, task, now, outages)


def worker_reasons(core: Core, task: Task) -> Iterator[Reason]:
    """Yield what its workers are doing, unless one is free for it."""
    kind = task.spec.task_type
    known = tuple(sorted(core.workers.types()))
    fellows = [worker for worker in core.workers if worker.worker_type == kind]
    if not fellows:
        types = ", ".join(known) or "none"
        text = f"there is no worker of type {kind}; known types: {types}"
        yield Reason("no_worker", text, worker_types=known)
        return
    if any(worker.free and worker.name not in task.avoid for worker in fellows):
        return
    counts = Counter(worker.status.value for worker in fellows)
    avoided = sum(worker.name in task.avoid for worker in fellows)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    if avoided:
        text += f"; {avoided} to be avoided, since it stalled there"
    if core.workers.serves(kind, task.avoid):
        yield Reason("workers_busy", f"no worker of type {kind} is free for it: {text}")
    else:
        yield Reason("workers_gone", f"no worker of type {kind} can take it: {text}")


def _unconfirmed(core: Core, task: Task) -> Iterator[Reason]:
    """Yield workers that may still get it from a dispatch that RabbitMQ has not confirmed."""
    unconfirmed = core.attempts.unconfirmed.values()
    names = sorted({each.worker.name for each in unconfirmed if each.task is task})
    if names:
        text = f"RabbitMQ has not confirmed its dispatch to {', '.join(names)}: it is not sent there again"
        yield Reason("unconfirmed", text)


def resource_reasons(
    core: Core, task: Task, now: Moment, outages: Sequence[Outage] = ()
) -> Iterator[Reason]:
    """Yield a reason for each of its resources that has no reference left for it."""
    names = task.spec.resources
    if names and not core.pool.ready:
        not_read = Reason("etcd_away", "its resources have not been read from Etcd")
        yield from _away(outages, Service.ETCD) or (not_read,)
        return
    for name in names:
        entry = core.pool.seen.get(name)
        if entry is None:
            if core.pool.holds_unknown:
                text = f"resource {name} has no entry in Etcd"
                yield Reason("resource_unknown", text, resource=name)
        elif (reason := _short(core, task, entry, now)) is not None:
            yield reason


def _short(core: Core, task: Task, entry: Resource, now: Moment) -> Reason | None:
    name, limit = entry.name, entry.limit_at(now.local)
    if limit == 0:
        text = "; ".join([f"resource {name} is closed: its limit is 0 now", *entry.faults[:FAULTS_TOLD]])
        return Reason("resource_closed", text, resource=name, held=entry.used, limit=0)
    left = core.pool.left(name, now)
    claims = core.pool.claims_before(name, now, task)
    if left - len(claims) >= 1:
        return None
    ours = tuple(holders(core, [name]).get(name, ()))
    short = left < 1
    text = (
        f"resource {name} has no reference left: {entry.used} of {limit} held"
        if short
        else f"resource {name} is claimed by tasks that go before it"
    )
    return Reason(
        "resource_short" if short else "claimed",
        text,
        resource=name,
        held=entry.used,
        limit=limit,
        holders=ours,
        others=not_ours(entry, ours),
        claims=tuple(waiter(wait, now) for wait in claims),
    )


def _ahead(core: Core, task: Task) -> tuple[int, bool]:
    """Count waiting tasks of its type that go before it, ignoring suites; return whether all were seen."""
    kind, rank = task.spec.task_type, task.rank
    seen = list(islice(core.backlog.tasks(), LOOK_AT))
    count = sum(
        other.lane is not None and other.spec.task_type == kind and other.rank < rank for other in seen
    )
    return count, len(seen) == len(core.backlog.by_guid) and not core.backlog.unread
