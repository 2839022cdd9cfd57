"""Watches a simulation from outside, and at once records what must never happen.

It shares no code with the core: it knows what was submitted, what workers did, what is written and by whom.
`tests.simulation.judge` checks what has to be true after a while.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.simulation.broker import Broker
from tests.simulation.voices import Saying
from tests.simulation.world import START

ENDS = ("start_time", "end_time")
"""Keys of a window."""

SAME_TIME = 0.05
"""Seconds that the news of the end of a leadership may take."""


@dataclass(frozen=True)
class Deed:
    """What a worker has done to a task, and when, in simulated seconds."""

    time: float
    worker: str
    guid: str


class Observer:
    """Watches everything.

    Args:
        keys: Etcd's keys.
        time: reads the simulated clock.
        queue: the manager's queue.

    Attributes:
        violations: what must not have happened; a dict keeps the order and each text only once.
        submitted: the type of each task that the broker has confirmed, by guid.
        sent: how often each guid was submitted.
        bodies: the message of each task, by guid.
        starts, results: what workers began and finished.
        said: what workers have said of tasks that they ended.
        committed: called after each commit.
        dispatches: how often a task was put into a worker's queue.
        came: how many messages the manager had been sent when a task first came, by guid.
        stops: the same for the last stop of each suite.
        prefix: of the manager's lock keys.
        being_written: former limits of the resources for which somebody is writing a window.
    """

    def __init__(self, keys: Mapping[str, str], time: Callable[[], float], queue: str) -> None:
        self.violations: dict[str, None] = {}
        self.submitted: dict[str, str] = {}
        self.sent: Counter[str] = Counter()
        self.bodies: dict[str, bytes] = {}
        self.starts: list[Deed] = []
        self.results: list[Deed] = []
        self.said: list[Saying] = []
        self.committed: Callable[[], None] = lambda: None
        self.dispatches: Counter[str] = Counter()
        self.garbage: list[bytes] = []
        self.came: dict[str, int] = {}
        self.stops: dict[str, int] = {}
        self._messages = 0
        self._keys = keys
        self._time = time
        self._queue = queue
        self._counts: dict[str, int] = {}
        self._ours: dict[str, int] = {}
        self.prefix = "tef"
        self.being_written: dict[str, int] = {}
        self._active = ""
        self._since = 0.0
        self._excused: dict[str, float] = {}

    def object(self, violation: str) -> None:
        """Record a violation."""
        self.violations[violation] = None

    # --- resources ---

    def key_changed(self, name: str) -> None:
        """Check a resource: whoever adds a reference must have had room for it."""
        count = int(self._keys.get(f"{name}/ref_count", "0"))
        before = self._counts.get(name, 0)
        self._counts[name] = count
        if count < 0:
            self.object(f"{name}: {count} references are held")
        ours = self._held_by_us(name)
        if count > before and not self.room(name, count - 1):
            self.object(f"{name}: {count} references are more than it has")
        if ours > self._ours.get(name, 0) and not self.room(name, max(0, ours - 1)):
            self.object(f"{name}: {ours} references of the manager's are more than it has")
        self._ours[name] = ours

    def restored(self) -> None:
        """Etcd is as it once was: nobody has just taken the references that are held now."""
        counts = {
            path.partition("/")[0]: value for path, value in self._keys.items() if "ref_count" in path
        }
        self._counts = {name: int(value) for name, value in counts.items()}
        self._ours = {name: self._held_by_us(name) for name in counts}

    def _held_by_us(self, name: str) -> int:
        return sum(path.startswith(f"{name}/locks/{self.prefix}:") for path in self._keys)

    def room(self, name: str, held: int | None = None) -> bool:
        """Tell whether one more reference may be taken; always, if the resource has no entry."""
        if f"{name}/ref_limit" not in self._keys:
            return True
        limits = (self.limit(name), self.being_written.get(name, -1))
        count = int(self._keys.get(f"{name}/ref_count", "0")) if held is None else held
        open_ = self._keys.get(f"{name}/available", "1") == "1"
        return open_ and all(limit == -1 or count < limit for limit in limits)

    def limit(self, name: str) -> int:
        """Return a resource's present limit; -1: none."""
        windows = self._windows(name)
        now = datetime.fromtimestamp(START + self._time(), UTC)
        clock = f"{now.hour:02}:{now.minute:02}"
        found = []
        for keys in windows.values():
            if "start_time" not in keys or "end_time" not in keys:
                return 0
            start, end = (":".join(f"{int(n):02}" for n in keys[key].split(":")[:2]) for key in ENDS)
            inside = start <= clock < end if start <= end else clock >= start or clock < end
            if inside and "limit" in keys:
                found.append(int(keys["limit"]))
        if not found:
            return int(self._keys.get(f"{name}/ref_limit", "0"))
        return min((limit for limit in found if limit != -1), default=-1)

    def _windows(self, name: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for path, value in self._keys.items():
            if path.startswith(f"{name}/windows/"):
                _, window, key = path.removeprefix(f"{name}/").split("/")
                found.setdefault(window, {})[key] = value
        return found

    # --- managers ---

    def crowned(self, manager: str) -> None:
        """Note that a manager became active."""
        if manager != self._active:
            self._active, self._since = manager, self._time()

    def excuse(self, manager: str, until: float) -> None:
        """A manager can't know that it is no longer active: it may act until its lease ends."""
        self._excused[manager] = until

    def writes(self, manager: str, where: str) -> None:
        """A manager does something outside that only the active one may do."""
        since = max(self._since + SAME_TIME, self._excused.get(manager, 0.0))
        if manager != self._active and self._time() > since:
            self.object(f"{manager} writes to {where} while {self._active or 'nobody'} is active")

    # --- tasks ---

    def confirmed(self, guid: str, task_type: str, body: bytes) -> None:
        """The broker has confirmed a task to its sender."""
        self.submitted[guid] = task_type
        self.bodies[guid] = body
        self.sent[guid] += 1

    def guids(self, bodies: Sequence[bytes]) -> set[str]:
        """Return the guids of the tasks among these messages."""
        return {guid for guid, body in self.bodies.items() if body in bodies}

    def put(self, broker: Broker, queue: str, body: bytes) -> None:
        """A message was put into a queue: a task in a worker's queue is a dispatch."""
        if queue == self._queue:
            self._came(body)
        if queue.startswith("w"):
            guid = json.loads(body)["guid"]
            self.dispatches[guid] += 1
            if body != self.bodies.get(guid):
                self.object(f"{guid} was sent as {body!r}")

    def _came(self, body: bytes) -> None:
        """The manager is sent a message; only the first one of a task counts."""
        self._messages += 1
        if body not in self.garbage:
            said = json.loads(body)
            if said.get("type") == "stop_suite":
                self.stops[said["data"]] = self._messages
            elif said.get("type") == "task":
                self.came.setdefault(said["guid"], self._messages)

    def started(self, worker: str, guid: str) -> None:
        """A worker began a task."""
        self.starts.append(Deed(self._time(), worker, guid))

    def result(self, worker: str, guid: str) -> None:
        """A worker has published a task's result."""
        self.results.append(Deed(self._time(), worker, guid))
