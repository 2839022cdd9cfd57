"""Windows that are written key by key: the strictest of all that was so counts for a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import pytest
from twisted.internet.task import Clock

from tefmanager.core.model.resources import UNLIMITED
from tefmanager.etcd.cache import Cache, Entry
from tefmanager.etcd.changing import SETTLING, Changing

NOON = datetime(2026, 1, 1, 12, 0)


class Etcd:
    """A cache that was read ``ago`` seconds ago, with one resource, and what it tells."""

    def __init__(self, keys: Mapping[str, str], ago: float = SETTLING) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        self.changing = Changing(self.clock, self._tell)
        self.cache = Cache(changing=self.changing)
        self._revision = 0
        self.read(keys)
        self.clock.advance(ago)
        self.told.clear()

    def read(self, keys: Mapping[str, str]) -> int | None:
        """Read everything, after others have changed it unseen; return the limit that counts."""
        self._revision += 1
        found = {key: Entry(value, self._revision) for key, value in keys.items()}
        self.cache.read_all({"r": found} if found else {}, self._revision)
        return self.limit

    def _tell(self, names: Iterable[str]) -> None:
        self.told.extend(names)

    def put(self, field: str, value: str | None, wait: float = 0.01) -> int | None:
        """Change a key; return the limit that counts after a while."""
        self._revision += 1
        self.cache.put("r", field, Entry(value, self._revision))
        self.clock.advance(wait)
        return self.limit

    @property
    def limit(self) -> int | None:
        """The limit that counts now."""
        found = self.cache.get("r")
        return None if found is None else found.limit_at(NOON)


WINDOW = {"start_time": "0:00", "end_time": "24:00", "day_of_week": "-1", "available": "1", "limit": "-1"}


def test_a_window_made_key_by_key() -> None:
    """Defaults that open the resource count only when nothing stricter has come for a while."""
    etcd = Etcd({"ref_limit": "1"})
    for field, value in WINDOW.items():
        limit = etcd.put(f"windows/1/{field}", value)
        assert limit is not None and 0 <= limit <= 1
    assert etcd.put("windows/1/limit", "3", SETTLING / 2) in (0, 1)
    assert etcd.told == []
    etcd.clock.advance(SETTLING / 2)
    assert (etcd.limit, etcd.told) == (3, ["r"])


def test_a_window_removed_key_by_key() -> None:
    """A window that closes the resource does so until it is gone for a while."""
    etcd = Etcd({"ref_limit": "5", **{f"windows/1/{key}": value for key, value in WINDOW.items()}})
    assert etcd.put("windows/1/available", "0") == 0
    assert [etcd.put(f"windows/1/{field}", None) for field in ("available", *WINDOW)] == [0] * 6
    etcd.clock.advance(SETTLING)
    assert etcd.limit == 5


def test_a_stricter_window_counts_at_once() -> None:
    """Only what opens waits."""
    etcd = Etcd({"ref_limit": "5", **{f"windows/1/{key}": value for key, value in WINDOW.items()}})
    assert etcd.put("windows/1/limit", "2", 0.0) == 2
    etcd.clock.advance(SETTLING)
    assert etcd.limit == 2


def test_a_new_resource() -> None:
    """One that is made without a limit may get one in the next moment; one with a limit counts at once."""
    etcd = Etcd({})
    assert etcd.put("ref_limit", "-1") == 0
    assert etcd.put("ref_limit", "1") == 0
    etcd.clock.advance(SETTLING)
    assert etcd.limit == 1
    assert Etcd({}).put("ref_limit", "1") == 1


@pytest.mark.parametrize(
    "first", [("source", "x"), ("available", "1"), ("ref_count", "0"), ("ref_limit", "0")]
)
def test_a_new_resource_in_another_order(first: tuple[str, str]) -> None:
    """Which of its keys comes first does not matter; later on a limit that is taken away counts at once."""
    etcd = Etcd({})
    assert etcd.put(*first) == 0
    assert etcd.put("ref_limit", "-1") == 0
    assert etcd.put("ref_limit", "1") == 0
    etcd.clock.advance(SETTLING)
    assert etcd.limit == 1
    assert etcd.put("ref_limit", "-1") == UNLIMITED


def test_other_changes_count_at_once() -> None:
    """A limit is a single key, and what was read at first is nothing new."""
    etcd = Etcd({"ref_limit": "1"})
    assert [etcd.put("ref_limit", limit) for limit in ("5", "-1", "2")] == [5, -1, 2]
    assert etcd.told == []


OPEN = {f"windows/1/{key}": value for key, value in WINDOW.items()}


@pytest.mark.parametrize(
    ("windows", "limit"),
    [(OPEN, UNLIMITED), ({key: OPEN[key] for key in OPEN if "time" in key}, 5)],
    ids=["half-written", "half-removed"],
)
def test_a_read_amid_a_change(windows: Mapping[str, str], limit: int) -> None:
    """The first read, and one after an outage, may find a window that others are writing or removing."""
    found = {"ref_limit": "5", **windows}
    first, later = Etcd(found, ago=0.0), Etcd({"ref_limit": "5"})
    assert (first.limit, later.limit, later.read(found)) == (0, 5, 0)
    assert later.put("windows/1/limit", "3", SETTLING) == 3
    first.clock.advance(SETTLING)
    assert (first.limit, first.told) == (limit, ["r"])


def test_what_a_read_finds_otherwise_counts_at_once() -> None:
    """A new resource without a limit may get one; a limit alone is whole, and known windows are no news."""
    new = Etcd({"ref_limit": "-1"}, ago=0.0)
    assert (new.limit, new.put("ref_limit", "1", SETTLING)) == (0, 1)
    assert Etcd({"ref_limit": "1"}, ago=0.0).limit == 1
    assert Etcd({"ref_limit": "1"}).read({"ref_limit": "-1"}) == UNLIMITED
    assert Etcd({"ref_limit": "1", **OPEN}).read({"ref_limit": "7", **OPEN}) == UNLIMITED


def test_nothing_grows() -> None:
    """However often a window changes, and after the end."""
    etcd = Etcd({"ref_limit": "1"})
    for limit in range(1000):
        etcd.put("windows/1/limit", str(limit))
    found = etcd.cache.get("r")
    assert found is not None and len(found.earlier) < 20
    etcd.changing.stop()
    assert etcd.clock.getDelayedCalls() == []
