"""The metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.protocol.messages import ManagerState
from tefmanager.protocol.verdicts import Result
from tefmanager.status.meter import OTHER, Histogram
from tefmanager.status.view import NotActive, View
from tefmanager.support.outages import Service

COUNTERS = {
    "tasks_accepted": ("Tasks accepted", "task_type"),
    "tasks_finished": ("Finished tasks, by outcome", "outcome"),
    "results": ("Completed tasks, by the result that their workers gave", "result"),
    "dispatches": ("Dispatches that the broker confirmed", "task_type"),
    "dispatches_failed": ("Dispatches that reached no queue", "task_type"),
    "attempts": ("Finished attempts, by outcome", "outcome"),
    "messages_rejected": ("Unusable messages, by the kind of error", "what"),
    "reservations": ("Reservations requested in Etcd, by answer", "outcome"),
    "reservation_conflicts": (
        "Writes to Etcd that were repeated because another program changed the same keys",
        "",
    ),
    "connects": ("Connections opened, by service; database: leaderships gained", "service"),
    "losses": ("Connections lost, by service; database: leaderships lost", "service"),
    "errors": ("Unexpected errors", ""),
}
"""Help text and label of each counter."""

_SERVICES = ("consumer", "publisher", "database", "etcd")
_KNOWN: Mapping[str, Sequence[str]] = {
    "tasks_finished": tuple(Outcome),
    "results": tuple(Result),
    "attempts": tuple(AttemptEnd),
    "messages_rejected": ("task", "json", "type"),
    "reservations": ("granted", "refused", "impossible", "unknown"),
    "connects": _SERVICES,
    "losses": _SERVICES,
}
"""The label values of a counter that are known in advance. They begin with 0, because Prometheus sees no
increase from a missing value."""


class ManagerCollector(Collector):
    """Makes all metrics on request, and those of the core at most once a second."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._counted()
        yield _histogram(
            "tef_dispatch_wait_seconds",
            "Time from a task's acceptance to its dispatch",
            self._view.meter.waited,
        )
        yield _histogram("tef_turn_seconds", "Duration of a turn", self._view.meter.turns)
        readiness = self._view.readiness()
        yield _gauge("tef_active", "1 on the active manager, 0 on a standby", readiness.role == "active")
        yield _gauge("tef_ready", "1 if no service is missing, 0 otherwise", readiness.ready)
        away = dict.fromkeys(Service, 0) | {each.service: 1 for each in readiness.outages}
        yield _gauges(
            "tef_outage", "1 while the service is missing, refuses or does not answer", "service", away
        )
        yield _gauge(
            "tef_healthy", "1 if the manager makes progress, 0 otherwise", self._view.health().healthy
        )
        try:
            yield from self._of_the_core()
        except NotActive:
            return

    def _counted(self) -> Iterator[Metric]:
        for name, (text, label) in COUNTERS.items():
            family = CounterMetricFamily(f"tef_{name}", text, labels=[label] if label else [])
            for of, count in self._counts(name, label).items():
                family.add_metric([of] if label else [], count)
            yield family

    def _counts(self, name: str, label: str) -> Mapping[str, int]:
        """Return a counter's values by label."""
        begun = dict.fromkeys(_KNOWN.get(name, ()) if label else ("",), 0)
        return begun | {of: count for (own, of), count in self._view.meter.counts.items() if own == name}

    def _of_the_core(self) -> Iterator[Metric]:
        status = self._view.status()
        waiting = status.waiting
        left = waiting.total - sum(waiting.by_type.values())
        others = {OTHER: waiting.by_type.get(OTHER, 0) + left} if left > 0 else {}
        yield _gauges("tef_waiting_tasks", "Waiting tasks", "task_type", {**waiting.by_type, **others})
        oldest = 0.0 if waiting.oldest is None else max(0.0, status.time - waiting.oldest)
        yield _gauge("tef_oldest_waiting_seconds", "Age of the oldest waiting task in memory", oldest)
        flight = {
            "dispatched": status.dispatched,
            "working": status.working,
            "dead_lettering": status.dead_lettering,
        }
        yield _gauges(
            "tef_tasks_in_flight",
            "Tasks that workers have, or that are on their way to the dead queue",
            "state",
            flight,
        )
        yield _gauges("tef_workers", "Workers known to the manager", "status", status.workers)
        states = {state.value: int(state.value == status.state) for state in ManagerState}
        yield _gauges("tef_state", "1 for the current state of the manager", "state", states)
        yield _gauge("tef_paused_suites", "Paused suites", status.paused_suites)
        resources = self._view.resources().resources
        held = {each.name: each.held for each in resources}
        yield _gauges(
            "tef_resource_held", "References held, including those of other programs", "resource", held
        )
        limits = {each.name: each.limit for each in resources}
        yield _gauges("tef_resource_limit", "Current limit of references; -1: no limit", "resource", limits)
        lanes = {each.name: each.waiting for each in resources}
        yield _gauges("tef_resource_waiting_lanes", "Lanes that wait for the resource", "resource", lanes)


def exposition(view: View) -> bytes:
    """Return all metrics in Prometheus' format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ManagerCollector(view))
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, found: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=found.buckets(), sum_value=found.sum)
