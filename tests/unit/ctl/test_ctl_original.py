"""Rows of the Ruby manager, made into messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tefmanager.ctl.original import MOVED, message_of

LIMIT = 10_000


def row(**fields: Any) -> dict[str, Any]:
    """Return a row as its tables have it."""
    whole = {
        "id": 7,
        "task_type": "echo",
        "guid": "g",
        "priority": 5,
        "dispatched": None,
        "task_data": "---\n:message: hello\n",
        "suite_guid": "s",
        "time_limit": 600,
        "status": "ready",
        "resources": "a|b",
    }
    return {**whole, **fields}


def test_a_row_is_the_message_that_it_came_from() -> None:
    """With the keys that the Ruby manager sends to workers."""
    found = message_of(row(), LIMIT)
    assert (found.id, found.guid, found.suite, found.state, found.fault) == (7, "g", "s", "ready", "")
    assert json.loads(found.body) == {
        "type": "task",
        "task_type": "echo",
        "guid": "g",
        "priority": 5,
        "task_data": {"message": "hello"},
        "suite_guid": "s",
        "time_limit": 600,
        "resources": "a|b",
    }


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("--- \n...\n", None),
        (None, None),
        ("--- hello\n...\n", "hello"),
        (
            "---\n:a:\n- 1\n- 2.5\n- true\n- \n- '1'\n- ':b'\n- :c\n",
            {"a": [1, 2.5, True, None, "1", ":b", "c"]},
        ),
        (
            "---\n:\"two words\": '2020-01-01'\n:when: 2020-01-01\n",
            {"two words": "2020-01-01", "when": "2020-01-01"},
        ),
        (
            "---\n:text: |-\n  one\n  two: 2\n:'it''s': \"\\u20ac\"\n",
            {"text": "one\ntwo: 2", "it's": "\u20ac"},
        ),
        ("---\n:a: !ruby/symbol b\n:e: {}\n:f: []\n", {"a": "b", "e": {}, "f": []}),
    ],
)
def test_task_data(text: str | None, data: object) -> None:
    """Ruby's YAML of what was JSON, its keys being symbols."""
    assert json.loads(message_of(row(task_data=text), LIMIT).body)["task_data"] == data


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "ready"),
        ({"status": "paused"}, "paused"),
        ({"status": "in progress", "dispatched": "2026-01-01"}, "in progress"),
        ({"status": "in progress"}, "in progress"),
        ({"dispatched": "2026-01-01"}, "in progress"),
        ({"status": None}, "unknown"),
        ({"status": MOVED, "dispatched": "2026-01-01"}, "moved"),
    ],
)
def test_states(fields: dict[str, Any], state: str) -> None:
    """A task that was taken back without being sent again is as good as with a worker."""
    assert message_of(row(**fields), LIMIT).state == state


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"task_data": "---\n- !ruby/object:Foo {}\n"}, "its task_data can't be read: ConstructorError"),
        ({"task_data": "--- [\n"}, "its task_data can't be read: ParserError"),
        ({"task_data": "--- .inf\n"}, "its task_data can't be read: ValueError"),
        ({"task_type": None}, "task_type is missing"),
        ({"task_data": "x" * LIMIT}, "bytes, at most 10000 are accepted"),
    ],
)
def test_rows_that_can_not_be_taken(fields: dict[str, Any], fault: str) -> None:
    """Each says why, and is no message."""
    found = message_of(row(**fields), LIMIT)
    assert fault in found.fault
    assert found.body == b""


def test_a_table_of_an_older_version() -> None:
    """Columns that later migrations add may be missing."""
    old = {key: value for key, value in row().items() if key not in ("suite_guid", "time_limit", "status")}
    found = message_of(old, LIMIT)
    assert (found.suite, found.state) == (None, "unknown")
    assert json.loads(found.body)["time_limit"] is None
