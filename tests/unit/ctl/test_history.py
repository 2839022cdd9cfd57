"""What tefctl shows of history, and how it asks for it."""

from __future__ import annotations

import time
from typing import Any, cast

import click
import pytest

from tefmanager.core.model.endings import Outcome
from tefmanager.ctl import history
from tefmanager.ctl.broker import Broker
from tefmanager.protocol.verdicts import Result
from tests.unit.ctl.test_ctl import GUID, printed

WORKER = "tef.dev.worker.host1.example.com.12341"


def task(guid: str = GUID, **fields: Any) -> dict[str, Any]:
    """Return a finished task as the manager describes it."""
    known = {"task_type": "regression", "worker": WORKER, "state": "completed", "result": "passed"}
    times = {"dispatched": 99.0, "started": 100.0, "finished": 112.34, "message": None}
    return {"guid": guid, **known, **times, **fields}


def page(*items: dict[str, Any], next: str | None = None) -> dict[str, Any]:
    """Return a page of history."""
    return {"items": list(items), "total": None, "next": next}


def test_history_at_80_columns() -> None:
    """The guid is whole and last, and what the worker said is below, as far as it fits."""
    failed = task(result="failed", message="expected 3,\ngot 4: " + "x" * 100)
    head, line, note = printed(history.shown(page(failed)), 80)
    assert head.split() == ["ended", "end", "worker", "type", "secs", "task"]
    assert line.endswith(GUID)
    assert [word in line for word in ("failed", "12.3")] == [True, True]
    assert note.startswith("    expected 3,\\ngot 4: xxx")
    assert note.endswith("x…")
    assert max(map(len, (head, line, note))) <= 80


def test_history_in_a_file() -> None:
    """A row is a line, with all of the message at its end."""
    text = "x" * 300
    _, line = printed(history.shown(page(task(message=text))), 200, terminal=False)
    assert line.endswith(f"{GUID}  {text}")


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"result": "error"}, "error"),
        ({"result": "unknown"}, "completed"),
        ({"state": "dead", "result": None}, "dead"),
    ],
)
def test_how_a_task_ended(fields: dict[str, Any], end: str) -> None:
    """The result says more than the outcome, if there is one."""
    _, line = printed(history.shown(page(task(**fields))), 100)
    assert line.split()[2] == end


def test_a_task_that_never_ran() -> None:
    """It has no worker and no duration."""
    stopped = task("A", state="stopped", result=None, worker=None, dispatched=None, started=None)
    _, line = printed(history.shown(page(stopped)), 100)
    assert line.split()[2:] == ["stopped", "regression", "A"]


def test_where_a_list_was_cut() -> None:
    """It says how to go on; an empty one says that it is."""
    *_, last = printed(history.shown(page(task(), next="112.340000:7")), 100)
    assert last == "there may be more: --after 112.340000:7"
    assert printed(history.shown(page()), 100) == ["no finished tasks"]


class Pages:
    """A manager whose pages have at most two tasks, some none."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, type: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return the next page."""
        self.asked.append({"type": type, **data})
        found = [["A", "B"], [], ["C", "D"], ["E"]][len(self.asked) - 1]
        following = None if found == ["E"] else f"1:{len(self.asked)}"
        return page(*(task(guid) for guid in found), next=following)


@pytest.mark.parametrize(
    ("limit", "guids", "next", "total"),
    [(100, "ABCDE", None, 5), (4, "ABCD", "1:3", None), (2, "AB", "1:1", None)],
)
def test_pages_are_put_together(limit: int, guids: str, next: str | None, total: int | None) -> None:
    """An empty page is not the last one; as many pages are read as the limit needs."""
    manager = Pages()
    found = history._read(cast(Broker, manager), {"worker": "w"}, limit)
    assert "".join(each["guid"] for each in found["items"]) == guids
    assert (found["next"], found["total"]) == (next, total)
    assert {(each["type"], each["worker"]) for each in manager.asked} == {("get_history", "w")}
    assert [each.get("after") for each in manager.asked] == [None, "1:1", "1:2", "1:3"][
        : len(manager.asked)
    ]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-28", time.mktime((2026, 11, 28, 0, 0, 0, 0, 0, -1))),
        ("2026-11-28 22:30", time.mktime((2026, 11, 28, 22, 30, 0, 0, 0, -1))),
        ("1970-01-01T00:00:10+00:00", 10.0),
        ("999999999d", 0.0),
    ],
)
def test_times(text: str, at: float) -> None:
    """Local time, unless it names a zone."""
    assert history.When().convert(text, None, None) == at


def test_times_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """By this machine's clock."""
    monkeypatch.setattr(time, "time", lambda: 10_000_000.0)
    found = [history.When().convert(text, None, None) for text in ("5s", "2m", "3h", "4d")]
    assert found == [9_999_995.0, 9_999_880.0, 9_989_200.0, 9_654_400.0]


@pytest.mark.parametrize("text", ["yesterday", "", "12", "-3h", "1960-01-01", "9999-12-31T23:59:59-12:00"])
def test_what_is_no_time(text: str) -> None:
    """It is a wrong command line."""
    with pytest.raises(click.BadParameter, match="is no time such as"):
        history.When().convert(text, None, None)


@pytest.mark.parametrize(("option", "kinds"), [("outcome", Outcome), ("result", Result)])
def test_words_for_ends(option: str, kinds: type[Outcome] | type[Result]) -> None:
    """They are the protocol's words, in whatever way this version of click names enumerations."""
    [found] = [each for each in history.history.params if each.name == option]
    assert isinstance(found.type, click.Choice)
    assert [found.type.convert(each.value, None, None) for each in kinds] == [each.value for each in kinds]
