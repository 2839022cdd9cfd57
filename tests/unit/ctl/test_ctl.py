"""The parts of tefctl that need no service."""

from __future__ import annotations

import errno
import io
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console, RenderableType

from tefmanager.ctl import follow, show, watch
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.foreign import foreign_locks
from tefmanager.ctl.main import cli, main
from tefmanager.ctl.submit import read_tasks
from tefmanager.ctl.tables import LEAST, Rows, as_json, cell, fitted, safe, shortened

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
        ("", "not valid JSON"),
        ("[]", "it contains no task"),
        ("nonsense", "not valid JSON"),
        (f"{json.dumps(A)}\nnonsense", "line 2 is not valid JSON"),
        (json.dumps([A, 7]), "task 2 can't be used"),
        (json.dumps([A, {"task_type": "t"}]), "task 2 can't be used: guid is missing"),
        (json.dumps({**A, "type": "set_state"}), "task 1 can't be used"),
        (json.dumps({**A, "task_data": "x" * 1000}), "at most 1000 are accepted"),
    ],
)
def test_files_that_can_not_be_used(text: str, reason: str) -> None:
    """What is wrong is found before anything is sent."""
    with pytest.raises(CtlError, match=r"^file: ") as caught:
        read_tasks("file", text.encode(), 1000)
    assert reason in str(caught.value)
    assert caught.value.status is Exit.NO


def test_foreign_locks() -> None:
    """Lock keys of others are, oldest first, never those of the manager."""
    paths = [
        "db/ref_count",
        "db/locks/res_man:4~100~1",
        "db/locks/res_man:5~300~2",
        "a/b/locks/other~50~1",
        "db/locks/tef.dev:7~10~1",
        "db/locks/no-lock-id",
    ]
    found = foreign_locks(paths, "tef.dev")
    assert [(each.resource, each.lock, each.client, each.since) for each in found] == [
        ("a/b", "other~50~1", "other", 50),
        ("db", "res_man:4~100~1", "res_man:4", 100),
        ("db", "res_man:5~300~2", "res_man:5", 300),
    ]


LEAKED = "tefctl resources leaked shows references without a lock key"


@pytest.mark.parametrize(
    ("known", "lines"),
    [
        ([], [f"held by other programs: 2; {LEAKED}"]),
        (
            [("res_man:4", 3600)],
            ["held by res_man:4, another program, for 1 h", f"held by other programs: 1 more; {LEAKED}"],
        ),
        (
            [("res_man:4", 3600), ("other", 60)],
            ["held by res_man:4, another program, for 1 h", "held by other, another program, for 1 m"],
        ),
    ],
    ids=["unknown", "some", "all"],
)
def test_held_by_others(known: list[tuple[str, int]], lines: list[str]) -> None:
    """Each program that holds what a task waits for is told, and how many are not known."""
    now = time.time()
    held = [{"client": client, "since": now - age} for client, age in known]
    reason = {"kind": "resource_short", "text": "resource db is short", "others": 2, "held_by_others": held}
    task = {
        "guid": "T",
        "task_type": "t",
        "suite": None,
        "priority": 1,
        "state": "waiting",
        "worker": None,
        "resources": ["db"],
        "received": now,
        "finished": None,
        "attempts": 0,
        "avoid": [],
    }
    answer = {"task": task, "reasons": [reason], "ahead": 0, "ahead_complete": True, "text": ""}
    shown = printed(show.explanation(answer), 100)
    assert [line.strip() for line in shown][-len(lines) :] == lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 m"), (3725, "1 h 2 m"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    """The two largest units are enough."""
    assert show.duration(seconds) == text


def test_nothing_in_a_table_has_a_meaning() -> None:
    """Names that senders choose bring neither markup nor control codes to the terminal."""
    assert cell("[red]a\x1b[31m\n").plain == r"[red]a\x1b[31m\n"


def test_names_stay_as_they_are() -> None:
    """What can't harm a terminal can be copied as it is; and an answer is not escaped twice."""
    assert cell(r"C:\a|b ü").plain == r"C:\a|b ü"
    assert safe("INVALID_JSON|NO_DATA|a\\x1b\x1b") == r"INVALID_JSON|NO_DATA|a\x1b\x1b"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["set-state", "asleep"], "'asleep' is not one of"),
        (["resources", "set-limit", "a//b", "1"], "can't be a resource's name"),
        (["resources", "set-limit", "a", "-2"], "-2 is not in the range"),
        (["--timeout", "0", "status"], "0.0 is not in the range 0.0<x<=86400.0"),
        (["--timeout", "nan", "status"], "nan is not a number of seconds"),
        (["--timeout", "inf", "status"], "inf is not in the range"),
        (["watch", "--interval", "nan"], "nan is not a number of seconds"),
        (["watch", "--interval", "0"], "0.0 is not in the range"),
        (["resources", "release-stale", "--older-than", "-1"], "-1.0 is not in the range"),
        (
            ["resources", "window", "add", "a", "w", "--from", "25:00", "--to", "1:00"],
            "is not a time of day",
        ),
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
    assert follow.line(event).endswith(r":00:00 task.accepted guid=A\nB priority=5.0")


@pytest.mark.parametrize("at", ["now", None, 1e300, float("nan"), -1e300, [], {}, True])
def test_events_at_no_time(at: object) -> None:
    """What stands for a time may be anything, since others may publish there."""
    assert "task.accepted" in follow.line({"time": at, "event": "task.accepted"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\x1b[2J",
        b"[1]",
        b'"x"',
        b"[" * 100_000,
        b"9" * 5000,
        b'{"a\\u001b[2J\\u202e":"\\u009b2J\\n"}',
    ],
)
def test_what_is_no_event(body: bytes) -> None:
    """It does nothing to the terminal, in either form."""
    event = follow.read(body)
    for text in (follow.line(event), as_json(event)):
        assert text.isprintable()
        assert text.splitlines() == [text]
    assert json.loads(as_json(event)) == event


def test_times_that_are_none() -> None:
    """What can't be a time is shown as none."""
    assert show.clocks("now", [1], 1e300) == ["", "", ""]  # type: ignore[arg-type]


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Go through all commands below a group, with their names."""
    for name, command in group.commands.items():
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize(
    ("names", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands(cli)]
)
def test_each_command_helps(names: tuple[str, ...], command: click.Command) -> None:
    """Each has an example of its own, and what it does fits into its line of the list."""
    output = CliRunner().invoke(cli, [*names, "--help"]).output
    assert isinstance(command, click.Group) or f"\n    tefctl {' '.join(names)}" in output.replace(
        "--json ", ""
    )
    listing = CliRunner().invoke(cli, [*names[:-1], "--help"]).output
    [line] = [line for line in listing.splitlines() if line.startswith(f"  {names[-1]} ")]
    assert line.endswith(".")
    assert not line.endswith("...")


GUID = "0007a02f-2922-0981-6739-d5f8c0000000"
SUITE = "task_suite_nightly_regression_2026_11_22"


def printed(made: RenderableType, width: int, *, terminal: bool = True) -> list[str]:
    """Return the lines of what is shown where so much is to be seen."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    console.print(made, crop=False)
    return file.getvalue().splitlines()


def listing() -> Rows:
    """Return a table as that of the tasks."""
    made = Rows("*task", "~type", "~suite", "#prio", "state", "~worker", "~resources")
    made.add(GUID, "echo", SUITE, 3, "working", "tef.dev.worker.host1.example.com.12341", "db licence")
    return made


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60, 20])
def test_guids_can_be_copied(width: int) -> None:
    """However narrow the terminal is, guids are whole and on one line, and all fits if that is possible."""
    lines = printed(listing(), width)
    assert len(lines) == 2
    assert lines[1].startswith(GUID)
    assert width < 60 or all(len(line) <= width for line in lines)


def test_what_gives_way() -> None:
    """Long names lose their middle, which tells least; where that is not enough, the last ones go."""
    head, line = printed(listing(), 100)
    assert head.split() == ["task", "type", "suite", "prio", "state", "worker", "resources"]
    assert re.search(r"  task_\w+…\w+_22 ", line)
    assert printed(listing(), 80)[0].split() == ["task", "type", "suite", "prio", "state", "worker"]
    assert printed(listing(), 10)[0].split() == ["task", "prio", "state"]


def test_tables_in_files() -> None:
    """Where there is no terminal nothing is shortened, and a row is a line."""
    _, line = printed(listing(), 40, terminal=False)
    assert SUITE in line
    assert line.endswith("db licence")


@pytest.mark.parametrize("text", ["task_suite_1", "ü" * 20, "漢字" * 8, "x"])
def test_shortened(text: str) -> None:
    """What is shortened is no wider than it may be, and begins and ends as it did."""
    for width in range(LEAST, 20):
        found = shortened(text, width)
        assert cell_len(found) <= width
        assert (found[0], found[-1]) == (text[0], text[-1])


def test_fitted() -> None:
    """The widest flexible columns give way first, and none becomes smaller than can be read."""
    assert fitted([10, 20, 30], [True, True, False], 58) == [10, 14, 30]
    assert fitted([10, 20, 30], [True, True, False], 47) == [6, 7, 30]
    assert fitted([10, 20, 30], [True, True, False], 41) == [9, 0, 30]
    assert fitted([10, 20, 30], [True, True, False], 5) == [0, 0, 30]
    assert fitted([1, 2], [False, True], 80) == [1, 2]


def test_a_long_guid_is_whole() -> None:
    """Where a task is described nothing is cut off, also of a name longer than the terminal."""
    task = dict.fromkeys(("suite", "worker", "received", "finished"))
    task |= {"guid": "G" * 200, "task_type": "t", "priority": 1, "state": "waiting", "attempts": 0}
    made = show.task({"task": {**task, "resources": [], "avoid": []}, "attempts": []})
    assert "".join(printed(made, 80)).count("G") == 200


def told_task(attempts: Sequence[Mapping[str, object]], **said: object) -> list[str]:
    """Return how a task with such attempts is described, 80 columns wide."""
    task = dict.fromkeys(("suite", "worker", "received", "finished"))
    task |= {"guid": "G", "task_type": "t", "priority": 1, "state": "completed", "attempts": len(attempts)}
    times = dict.fromkeys(("dispatched", "started", "ended"), 12 * 3600.0)
    rows = [{"number": n, "worker": "worker_1", **times, **each} for n, each in enumerate(attempts, 1)]
    task |= {"resources": [], "avoid": [], **said}
    return printed(show.task({"task": task, "attempts": rows}), 80)


def test_what_workers_said() -> None:
    """Of the task its result, and of each attempt what its worker said of it, however long."""
    why = "3 of 40 checks failed: " + " ".join(f"check-{number}" for number in range(40))
    first = {"end": "environment", "result": "error", "message": "no \x1b[2J disk", "details": {"a": 1}}
    second = {"end": "completed", "result": "failed", "message": why}
    lines = told_task([first, {"end": "stalled"}, second], result="failed", message=why)
    assert all(len(line) <= 80 for line in lines)
    assert ["result", "failed"] in [line.split() for line in lines]
    said = lines[lines.index("", lines.index("") + 1) + 1 :]
    assert said[0].split() == ["attempt", "1", "error", "no", "\\x1b[2J", "disk"]
    assert said[1].split()[:6] == ["attempt", "3", "failed", "3", "of", "40"]
    assert " ".join(" ".join(said).split()).endswith(why)


def test_progress() -> None:
    """What the worker said last of how far it is, while the attempt is under way."""
    lines = told_task([{"end": None, "result": None, "message": None}], state="working", progress="1 of 3")
    assert ["progress", "1", "of", "3"] in [line.split() for line in lines]
    assert lines[-1].split()[-2:] == ["under", "way"]


def test_workers_that_said_nothing() -> None:
    """A result that nobody gave is no line of its own."""
    lines = told_task([{"end": "completed", "result": "unknown", "message": None}], result="unknown")
    assert lines[-1].split()[-1] == "completed"


def test_times_of_a_day() -> None:
    """The date stands once for each day; what has not happened stays empty."""
    noon = 12 * 3600.0
    texts = show.clocks(noon, None, noon + 1, noon + 2 * 86400)
    assert [len(text) for text in texts] == [19, 0, 8, 19]


def test_who_holds() -> None:
    """Of many that hold a resource the first are named, each on a line, and the others counted."""
    holders = [{"guid": f"guid-{number}"} for number in range(12)]
    entry = {"name": "db", "held": 12, "limit": -1, "others": 0, "waiting": 3, "holders": holders}
    entry |= {"available": True, "window": None, "faults": []}
    answer = {"resources": [entry], "total": 1, "ready": True, "unknown": []}
    lines = printed(show.resources(answer), 100)
    assert len(lines) == 11
    assert lines[1].split() == ["db", "12", "none", "0", "3", "guid-0"]
    assert lines[-1].split() == ["guid-9", "and", "2", "more"]
    assert printed(show.resources(answer, most=1), 100)[1].endswith("guid-0 and 11 more")


@pytest.mark.parametrize(
    ("room", "wanted", "given"),
    [
        (30, [15, 4, 3], [15, 4, 3]),
        (12, [15, 4, 3], [5, 4, 3]),
        (6, [15, 15, 0], [3, 3, 0]),
        (-5, [15, 2, 0], [1, 1, 0]),
    ],
)
def test_shares_of_the_screen(room: int, wanted: list[int], given: list[int]) -> None:
    """Each table has the same room, but for what others do not need; none is pushed off the screen."""
    assert watch.shared(room, wanted) == given


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output can't be written that is one line, and no traceback."""

    def full(prog_name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tefmanager.ctl.main.cli", full)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err == "tefctl: No space left on device\n"


def test_what_is_no_broker() -> None:
    """A server that speaks something else, or nothing, is told in one line."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        result = CliRunner().invoke(cli, ["--timeout=0.2", "status"], env={"TEF_AMQP_URL_DEV": url})
    assert isinstance(result.exception, CtlError)
    assert result.exception.status is Exit.BROKER
    assert str(result.exception).endswith(": the server there does not speak AMQP, or is too slow")
