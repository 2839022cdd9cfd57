"""The parts of tefctl that need no service."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tefmanager.ctl import events, show
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.main import cli
from tefmanager.ctl.resources import stale_locks
from tefmanager.ctl.submit import read_tasks

A, B = {"type": "task", "task_type": "t", "guid": "A"}, {"task_type": "t", "guid": "B", "x": "ü"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([A, B]),
        f"{json.dumps(A)}\n\n{json.dumps(B)}\n",
        json.dumps([A, B], indent=2),
    ],
)
def test_forms_of_files(text: str) -> None:
    """A list, and one task a line, are the same; the type may be left out."""
    found = read_tasks("file", text.encode(), 1000)
    assert [guid for guid, _ in found] == ["A", "B"]
    assert [json.loads(body) for _, body in found] == [A, {"type": "task", **B}]


def test_one_task_in_a_file() -> None:
    """An object that goes over several lines is one task."""
    [(guid, _)] = read_tasks("file", json.dumps(A, indent=2).encode(), 1000)
    assert guid == "A"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "this is no JSON"),
        ("[]", "there is no task in it"),
        ("nonsense", "this is no JSON"),
        (f"{json.dumps(A)}\nnonsense", "line 2 is no JSON"),
        (json.dumps([A, 7]), "task 2 can't be used"),
        (json.dumps([A, {"task_type": "t"}]), "task 2 can't be used: guid is missing"),
        (json.dumps({**A, "type": "set_state"}), "task 1 can't be used"),
        (json.dumps({**A, "task_data": "x" * 1000}), "at most 1000 are taken"),
    ],
)
def test_files_that_can_not_be_used(text: str, reason: str) -> None:
    """What is wrong is found before anything is sent."""
    with pytest.raises(CtlError, match=r"^file: ") as caught:
        read_tasks("file", text.encode(), 1000)
    assert reason in str(caught.value)
    assert caught.value.status is Exit.NO


def test_stale_locks() -> None:
    """Only old lock keys of others are, never those of the manager."""
    paths = dict.fromkeys(
        [
            "db/ref_count",
            "db/locks/res_man:4~100~1",
            "db/locks/res_man:5~300~2",
            "a/b/locks/other~50~1",
            "db/locks/tef.dev:7~10~1",
            "db/locks/no-lock-id",
        ]
    )
    found = stale_locks(paths, "tef.dev", 200, None)
    assert [(each.resource, each.client, each.since) for each in found] == [
        ("a/b", "other", 50),
        ("db", "res_man:4", 100),
    ]
    assert [each.lock for each in stale_locks(paths, "tef.dev", 200, "res_man")] == ["res_man:4~100~1"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 m"), (3725, "1 h 2 m"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    """The two largest units are enough."""
    assert show.duration(seconds) == text


def test_nothing_in_a_table_has_a_meaning() -> None:
    """Names that senders choose bring neither markup nor control codes to the terminal."""
    assert show.cell("[red]a\x1b[31m\n").plain == r"[red]a\x1b[31m\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["set-state", "asleep"], "'asleep' is not one of"),
        (["resources", "set-limit", "a//b", "1"], "can't be a resource's name"),
        (["resources", "set-limit", "a", "-2"], "No such option"),
        (["resources", "window", "add", "a", "w", "--from", "25:00", "--to", "1:00"], "is no time of day"),
        (["resources", "window", "add", "a", "w", "--from", "2:00", "--to", "1:00"], "give --limit, or"),
        (["dead", "drop"], "give guids, or --all"),
        (["dead", "retry", "A", "--all"], "give guids, or --all"),
        (["tasks", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_command_lines(arguments: list[str], reason: str) -> None:
    """They end with status 2 before any service is looked for."""
    result = CliRunner().invoke(cli, arguments, env={"TEF_AMQP_URL_DEV": ""})
    assert result.exit_code == 2
    assert reason in result.output


def test_no_configuration() -> None:
    """Where no broker is named that is said, with the variable's name; the database is not asked for."""
    result = CliRunner().invoke(cli, ["--env", "test", "status"], env={"TEF_AMQP_URL_TEST": None})
    assert isinstance(result.exception, CtlError)
    assert result.exception.status is Exit.CONFIG
    assert "TEF_AMQP_URL_TEST is not set" in str(result.exception)
    assert "DB_CONFIG" not in str(result.exception)


def test_help_has_examples() -> None:
    """They stand on lines of their own."""
    output = CliRunner().invoke(cli, ["submit", "--help"]).output
    assert "\n    tefctl submit suite.json --wait\n" in output


def test_events_for_people() -> None:
    """What an event does not say is left out, and nobody's text breaks the line."""
    event = {"event": "task.accepted", "time": 0.0, "guid": "A\nB", "priority": 5.0, "suite": None}
    assert events.line(event).endswith(r":00:00 task.accepted guid=A\nB priority=5.0")
