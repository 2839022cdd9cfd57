"""Keys of Etcd and what they say: names with slashes, lock keys, faulty values."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tefmanager.core.model.resources import UNLIMITED, Resource, Window
from tefmanager.etcd import tree

unhurried = settings(deadline=None)
part = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=6)
name = st.lists(part | st.sampled_from(["locks", "windows"]), min_size=1, max_size=4).map("/".join)
names = name.filter(bool)
fields = st.sampled_from(sorted(tree.FIELDS))
window_fields = st.builds("windows/{}/{}".format, part, st.sampled_from(sorted(tree.WINDOW_FIELDS)))
values = st.text(max_size=5) | st.integers(-3, 30).map(str) | st.sampled_from(["9:00", "24:00", "22:30"])


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("db/ref_count", ("db", "ref_count")),
        ("a/b/c/ref_limit", ("a/b/c", "ref_limit")),
        ("db/available", ("db", "available")),
        ("db/windows/1/available", ("db", "windows/1/available")),
        ("windows/1/available", ("windows/1", "available")),
        ("a/windows/1/windows/2/limit", ("a/windows/1", "windows/2/limit")),
        ("db/locks/x:1~2~3", ("db", "locks/x:1~2~3")),
        ("a/locks/b/locks/c", ("a/locks/b", "locks/c")),
        ("db/locks/host/with/slash~1~2", ("db", "locks/host/with/slash~1~2")),
        ("locks/locks/x", ("locks", "locks/x")),
        ("ref_count/ref_count", ("ref_count", "ref_count")),
        ("/windows//available", ("/windows/", "available")),
    ],
)
def test_place(path: str, found: tuple[str, str]) -> None:
    """The longest name before a known field is the resource."""
    assert tree.resource_key(path) == tree.ResourceKey(*found)


@pytest.mark.parametrize(
    "path", ["", "ref_count", "/ref_count", "db", "db/other", "locks/x", "db/windows/1/x"]
)
def test_no_place(path: str) -> None:
    """A key without a name or a known field is none of ours."""
    assert tree.resource_key(path) is None


@unhurried
@given(names, fields | window_fields)
def test_every_key_leads_back(name: str, field: str) -> None:
    """Whatever the name, its keys are found to be its own, unless it ends like a window's folder."""
    at = tree.resource_key(f"{name}/{field}")
    if field == "available" and name.split("/")[-2:-1] == ["windows"] and "/".join(name.split("/")[:-2]):
        assert at is not None
        assert at.is_window
    else:
        assert at == tree.ResourceKey(name, field)


@unhurried
@given(names, fields | window_fields | st.builds("locks/{}~{}".format, part, part))
def test_lock_keys_are_told_from_others(name: str, field: str) -> None:
    """At a glance: ours are, and no key of a resource is taken for one."""
    at = tree.resource_key(f"{name}/{field}")
    told = tree.is_lock_key(f"/tef/dev/resources/{name}/{field}".encode())
    assert told == field.startswith("locks/")
    assert not told or (at is not None and at.is_lock)


@unhurried
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 10**17), st.integers(0, 10**17))
def test_own_lock_keys(prefix: str, attempt: int, count: int) -> None:
    """A lock key is one part of a path, not hidden, and leads back to its attempt, for no other prefix."""
    field = tree.lock_field(prefix, attempt, 1700000000.9, count)
    at = tree.resource_key(f"name/{field}")
    assert at is not None
    assert (at.name, at.field, at.is_lock) == ("name", field, True)
    assert not at.lock_id.startswith("_")
    assert "/" not in at.lock_id
    assert tree.lock_attempt(prefix, at.lock_id) == attempt
    for other in (prefix + "x", "x" + prefix, f"{prefix}:1", prefix.replace("/", "%2F") + "/"):
        assert tree.lock_attempt(other, at.lock_id) is None


@pytest.mark.parametrize(
    "lock_id",
    ["tef.dev:1", "tef.dev:1~2", "tef.dev:x~1~2", "tef.dev~1~2", "tef.dev:1~a~2", "tef.dev:1~1~2~3", ""],
)
def test_foreign_lock_keys(lock_id: str) -> None:
    """What only looks like a key of ours is not."""
    assert tree.lock_attempt("tef.dev", lock_id) is None


def test_plain_prefix_is_as_documented() -> None:
    """The usual name prefix stands in the key as it is."""
    assert tree.lock_field("tef.dev", 12, 1700000000.7, 3) == "locks/tef.dev:12~1700000000~3"


def test_defaults() -> None:
    """Without a count, a limit or a switch: nothing held, nothing to have, switched on."""
    assert tree.resource("r", {"source": "x"}) == Resource("r", held=0, limit=0, available=True)
    assert tree.resource("r", {"ref_limit": "-1"}) == Resource("r", limit=UNLIMITED)


@pytest.mark.parametrize("fields", [{}, {"locks/a:1~2~3": "1"}])
def test_no_entry(fields: dict[str, str]) -> None:
    """Locks alone make no entry."""
    assert tree.resource("r", fields) is None


@pytest.mark.parametrize(
    "value", ["", "four", "1.0", "1e3", "0x1", "--1", "-2", "१", "1_0", "9" * 5000, "∞"]
)
def test_malformed_limit(value: str) -> None:
    """A limit that is not a number is 0, and said to be wrong in a short text."""
    found = tree.resource("r", {"ref_limit": value, "ref_count": "1"})
    assert found is not None
    assert (found.limit, found.held) == (0, 1)
    assert len(found.faults) == 1
    assert found.faults[0].startswith("ref_limit is ")
    assert len(found.faults[0]) < 120


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5"])
def test_malformed_count(value: str) -> None:
    """A count that can't be raised closes the resource, also inside windows."""
    window = {"windows/w/start_time": "0:00", "windows/w/end_time": "24:00", "windows/w/limit": "5"}
    found = tree.resource("r", {"ref_limit": "-1", "ref_count": value, **window})
    assert found is not None
    assert not found.available
    assert found.limit == 0
    assert len(found.faults) == 1


@pytest.mark.parametrize(
    ("value", "available"), [("1", True), ("0", False), (" 1\n", True), ("yes", False), ("2", False)]
)
def test_available(value: str, available: bool) -> None:
    """Anything but 1 closes; anything but 1 and 0 is a fault."""
    found = tree.resource("r", {"available": value})
    assert found is not None
    assert found.available is available
    assert bool(found.faults) is (value.strip() not in ("0", "1"))


def window(**parts: str) -> tuple[tuple[Window, ...], int]:
    """Return the windows made of one window's keys, and how many faults there are."""
    given_parts = {"start_time": "9:00", "end_time": "17:30", **parts}
    found = tree.resource("r", {f"windows/w/{part}": value for part, value in given_parts.items()})
    assert found is not None
    return found.windows, len(found.faults)


def test_window() -> None:
    """Missing parts have their defaults."""
    assert window() == ((Window("w", 540, 1050),), 0)
    full = window(day_of_week="0", available="0", limit="-1")
    assert full == ((Window("w", 540, 1050, 0, False, UNLIMITED),), 0)
    assert window(start_time="22:5", end_time="24:00", limit="3") == (
        (Window("w", 1325, 1440, limit=3),),
        0,
    )


@pytest.mark.parametrize(
    "parts",
    [
        *[
            {"start_time": "24:00"},
            {"start_time": "9"},
            {"start_time": "13 pm"},
            {"start_time": "9:60"},
            {"end_time": "24:01"},
        ],
        *[{"end_time": "-1:00"}, {"end_time": ""}, {"day_of_week": "7"}, {"day_of_week": "Mon"}],
        *[{"available": "x"}, {"limit": "x"}, {"limit": "-2"}, {"limit": ""}],
    ],
)
def test_malformed_window(parts: dict[str, str]) -> None:
    """A window with a part that can't be read closes the resource, with a fault that says so."""
    assert window(**parts) == ((), 1)
    given_parts = {"start_time": "9:00", "end_time": "17:30", **parts}
    keys = {f"windows/w/{part}": value for part, value in given_parts.items()}
    found = tree.resource("r", {"ref_limit": "3", **keys})
    assert found is not None
    assert found.closed and found.limit_at(datetime(2026, 1, 1, 3, 0)) == 0
    assert found.faults[0].endswith(": the resource is closed")


def test_window_without_times() -> None:
    """A window needs both times."""
    found = tree.resource("r", {"ref_limit": "1", "windows/w/limit": "3"})
    assert found is not None
    assert found.windows == () and found.closed
    assert [fault.split(" is ")[0] for fault in found.faults] == [
        "windows/w/start_time",
        "windows/w/end_time",
    ]


@unhurried
@given(st.dictionaries(fields | window_fields, values, min_size=1))
def test_anything_can_be_read(keys: dict[str, str]) -> None:
    """No value makes the reading fail, and each window is either there or a fault."""
    found = tree.resource("r", keys)
    assert found is not None
    assert found.held >= 0
    assert found.limit >= UNLIMITED
    ids = {key.split("/")[1] for key in keys if key.startswith("windows/")}
    assert {window.id for window in found.windows} <= ids
    assert len(found.windows) + len(found.faults) >= len(ids)
