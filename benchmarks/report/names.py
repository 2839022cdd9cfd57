"""The names of tables' rows and of plots' bars and lines, with the measurements that they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

US = "tef-manager"


@dataclass(frozen=True)
class Row:
    """A row, a pair of bars or a line.

    Attributes:
        name: for people.
        facts: facts of the measurements that it shows.
    """

    name: str
    facts: Mapping[str, str | int]

    @property
    def ours(self) -> bool:
        """Whether it shows the manager."""
        return self.facts.get("who") == US


def _ours(workers: int, resources: int, api: str = "v3") -> Row:
    with_what = f", {resources} resources" if resources else ""
    facts: dict[str, str | int] = {
        "who": "tef-manager",
        "workers": workers,
        "resources": resources,
        "api": api,
    }
    return Row(f"tef-manager, {workers} workers{with_what}{', Etcd v2' if api == 'v2' else ''}", facts)


def _other(name: str, who: str, submits: str, resources: int = 0) -> Row:
    return Row(name, {"who": who, "submits": submits, "resources": resources})


CELERY = _other("Celery", "celery", "unconfirmed")
CELERY_CONFIRMED = _other("Celery, submits confirmed", "celery", "confirmed")
PROCRASTINATE = _other("procrastinate", "procrastinate", "confirmed")
DASK = _other("dask.distributed (in memory)", "dask", "unconfirmed")
DASK_PROCESSES = _other("dask.distributed, 8 processes", "dask-processes", "unconfirmed")
DASK_PROCESSES_RESOURCES = _other(
    "dask.distributed, 8 processes, 3 resources", "dask-processes", "unconfirmed", 3
)
DASK_RESOURCES = _other("dask.distributed (in memory), 3 resources", "dask", "unconfirmed", 3)

OTHERS = (
    CELERY,
    CELERY_CONFIRMED,
    _other("dramatiq", "dramatiq", "unconfirmed"),
    _other("dramatiq, submits confirmed", "dramatiq", "confirmed"),
    PROCRASTINATE,
    DASK,
    DASK_RESOURCES,
    DASK_PROCESSES,
    DASK_PROCESSES_RESOURCES,
)
"""The other task queues, as they were measured."""

BARS = (
    *(_ours(workers, 0) for workers in (8, 20, 100, 400)),
    *(_ours(workers, 3) for workers in (8, 20, 100, 400)),
    *(_ours(workers, 3, "v2") for workers in (8, 100)),
    *OTHERS,
)
"""All configurations for which throughput was measured."""

IDLE = tuple(
    Row(f"tef-manager, {name}", {"who": US, "what": "idle", "resources": each})
    for name, each in (("idle", 0), ("idle, 3 resources", 3))
)
BUSY = tuple(
    Row(f"tef-manager, {name}", {"who": US, "what": "300 tasks/s", "resources": each})
    for name, each in (("300 tasks/s", 0), ("300 tasks/s, 3 resources", 3))
)
ROUND_TRIP = Row("bare round trip through RabbitMQ", {"who": "bare", "what": "round trip"})
COMMIT = Row("a commit in PostgreSQL", {"who": "bare", "what": "commit"})
TRANSACTION = Row("a transaction in Etcd", {"who": "bare", "what": "Etcd transaction"})
IDLE_OTHERS = tuple(
    Row(f"{name}, idle", {"who": who, "what": "idle"})
    for name, who in (
        ("dramatiq", "dramatiq"),
        ("Celery", "celery"),
        ("procrastinate", "procrastinate"),
        ("dask.distributed", "dask"),
    )
)

LATENCIES = (*IDLE, *BUSY, ROUND_TRIP, *IDLE_OTHERS)
"""All configurations whose latencies are drawn."""
