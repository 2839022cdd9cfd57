"""What became of each task, and whether anything was lost or went wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tefmanager.demo.shared_resources import Use
from tefmanager.demo.suite import DemoTask

Results = Mapping[str, Sequence[Mapping[str, Any]]]
"""The messages with results, by the guid of their task."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a task.

    Attributes:
        task: the task as submitted.
        worker: its name, or None if there is no result.
        waited: seconds from the submission to the beginning.
        ran: seconds that its command took.
        result: the result, for people.
        fault: what is wrong, or an empty text.
    """

    task: DemoTask
    worker: str | None = None
    waited: float | None = None
    ran: float | None = None
    result: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of the demo.

    Attributes:
        rows: one for each task, in the order in which they were submitted.
        peaks: the most references of each resource that were held at a time.
        left: number of references and lock keys that nobody gave back.
        faults: everything that is wrong, one line each.
    """

    rows: tuple[Row, ...]
    peaks: Mapping[str, int]
    left: int
    faults: tuple[str, ...]

    @property
    def done(self) -> int:
        """How many tasks have the expected result."""
        return sum(not row.fault for row in self.rows)

    @property
    def work(self) -> float:
        """How many seconds the commands took in total."""
        return sum(row.ran or 0.0 for row in self.rows)


def judge(
    tasks: Sequence[DemoTask],
    submitted: float,
    results: Results,
    uses: Iterable[Use],
    sampled: Mapping[str, int],
) -> Verdict:
    """Compare the results with the tasks.

    Args:
        tasks: the submitted tasks.
        submitted: unix time of the submission.
        results: the results that came.
        uses: the use of each resource at the end.
        sampled: the highest counts that were seen in Etcd.
    """
    rows = tuple(_row(task, submitted, results.get(task.guid, ())) for task in tasks)
    uses = tuple(uses)
    limits = {use.name: use.limit for use in uses}
    peaks = {name: max(sampled.get(name, 0), most_at_once(name, tasks, results)) for name in limits}
    faults = [f"{row.task.guid}: {row.fault}" for row in rows if row.fault]
    faults += [
        f"{name}: {peaks[name]} held at once, limit {limits[name]}"
        for name in limits
        if peaks[name] > limits[name]
    ]
    faults += [
        f"{use.name}: {use.held} references and {use.locks} locks left"
        for use in uses
        if use.held or use.locks
    ]
    return Verdict(rows, peaks, sum(max(use.held, use.locks) for use in uses), tuple(faults))


def _row(task: DemoTask, submitted: float, results: Sequence[Mapping[str, Any]]) -> Row:
    if not results:
        return Row(task, fault="no result")
    found = results[0]["task_data"]["result"]
    fault = "" if len(results) == 1 else f"{len(results)} results"
    if not is_expected(task, results[0]):
        fault = "wrong result"
    waited = found["started"] - submitted
    return Row(task, found["worker"], waited, found["seconds"], shown(found), fault)


def is_expected(task: DemoTask, message: Mapping[str, Any]) -> bool:
    """Tell whether the task came back unchanged, with the expected result of its command."""
    data = dict(message["task_data"])
    found = data.pop("result")
    wanted = {**task.expected, "exit_status": 0}
    return {**message, "task_data": data} == task.message() and wanted.items() <= found.items()


def shown(result: Mapping[str, Any]) -> str:
    """Return a result for people, on one line."""
    status = result["exit_status"]
    text = result.get("output", "").strip() or f"{result.get('lines')} lines, {result.get('bytes')} B"
    first = text.splitlines()[0] if text else ""
    return first if status == 0 else f"exit status {status}: {first}"


def most_at_once(resource: str, tasks: Iterable[DemoTask], results: Results) -> int:
    """Return how many tasks with a resource ran at one time, according to their workers.

    Unlike samples from Etcd, these spans miss nothing.
    """
    changes: list[tuple[float, int]] = []
    for task in tasks:
        if resource in task.resources:
            for message in results.get(task.guid, ()):
                found = message["task_data"]["result"]
                changes += [(found["started"], 1), (found["started"] + found["seconds"], -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
