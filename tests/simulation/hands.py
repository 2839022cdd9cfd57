"""What people and other programs do to resources by hand: windows, counts, and recreated resources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.fakes.reservations import FakeEtcd
from tests.simulation.judge import Judge
from tests.simulation.observer import Observer
from tests.simulation.story import LIMITS
from tests.simulation.world import START, World

BETWEEN = 0.05
"""Seconds between two keys that are written one after the other."""


class Hands:
    """Steps of a story, for a grid."""

    world: World
    etcd: FakeEtcd
    observer: Observer
    judge: Judge

    def foreign_window(self, name: str, limit: int, minutes: int, seconds: float) -> None:
        """A program creates a window key by key, with permissive defaults first, and removes it later."""
        now = datetime.fromtimestamp(START + self.world.time, UTC)
        end = now + timedelta(minutes=minutes)
        at = f"{name}/windows/1"
        keys = [
            (f"{at}/available", "1"),
            (f"{at}/limit", "-1"),
            (f"{at}/day_of_week", "-1"),
            (f"{at}/start_time", f"{now.hour}:{now.minute}"),
            (f"{at}/end_time", f"{end.hour}:{end.minute:02}:00"),
            (f"{at}/limit", str(limit)),
        ]
        self._one_by_one(name, keys)
        paths = [path for path, _ in keys[:5]]
        self.world.later(seconds, seconds, self._one_by_one, name, [(path, None) for path in paths])

    def _one_by_one(self, name: str, keys: Sequence[tuple[str, str | None]]) -> None:
        """Write or remove keys one by one; until that is done, the former limit is valid too."""
        self.observer.being_written[name] = self.observer.limit(name)
        for number, (path, value) in enumerate(keys, 1):
            self.world.clock.callLater(number * BETWEEN, self._write, path, value)
        done = (len(keys) + 1) * BETWEEN
        self.world.clock.callLater(done, self.observer.being_written.pop, name, None)

    def _write(self, path: str, value: str | None) -> None:
        if value is None:
            self.etcd.delete(path)
        else:
            self.etcd.set(path, value)

    def foreign_reset(self, name: str) -> None:
        """Somebody sets a count to 0 although references are held."""
        self.etcd.set(f"{name}/ref_count", "0")

    def foreign_remake(self, name: str) -> None:
        """Somebody deletes a resource that is held, and creates it again."""
        self.judge.newcomers.add(name)
        for key in ("ref_limit", "ref_count", "available"):
            self.etcd.delete(f"{name}/{key}")
        self.world.clock.callLater(BETWEEN, self.etcd.set, f"{name}/ref_limit", str(LIMITS[name]))
