"""Messages: what is taken, what is not, and that nothing whatever brings the parser down."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.protocol.messages import (
    DispatchTasks,
    GetWorkers,
    Invalid,
    ManagerState,
    SetState,
    SuiteCommand,
    TaskMessage,
    WorkerMessage,
    parse,
)

LIMIT = 16 * 1024 * 1024


def task(**fields: object) -> bytes:
    """Return a task's message; the fields given replace the two required ones or add to them."""
    return json.dumps({"type": "task", "task_type": "echo", "guid": "g", **fields}).encode()


def parsed_task(**fields: object) -> TaskMessage:
    """Return what a good task says."""
    message = parse(task(**fields), LIMIT)
    assert isinstance(message, TaskMessage), message
    return message


def test_readme_task() -> None:
    """The README's example is understood in full."""
    message = parsed_task(
        guid="task_123456",
        priority=5,
        resources=["resource_1", "resource_2", "resource_3"],
        time_limit=600,
        task_data={"message": "hello world"},
        suite_guid="task_suite_7",
    )
    names = ("resource_1", "resource_2", "resource_3")
    assert message == TaskMessage("task_123456", "echo", 5.0, names, "task_suite_7", 600.0)


def test_task_defaults() -> None:
    """Only task_type and guid are required."""
    assert parse(task(), LIMIT) == TaskMessage("g", "echo", 1.0, (), None, None)


@pytest.mark.parametrize("resources", [None, [], "", "|"])
def test_no_resources(resources: object) -> None:
    """Null and empty lists and strings need nothing."""
    assert parsed_task(resources=resources).resources == ()


@pytest.mark.parametrize("resources", ["b|a|b", ["b", "a", "b"]])
def test_resources_in_both_forms(resources: object) -> None:
    """A list and a string with ``|`` are the same; a name counts once."""
    assert parsed_task(resources=resources).resources == ("a", "b")


@pytest.mark.parametrize(
    ("given_", "priority"),
    [
        ("7", 7.0),
        (7, 7.0),
        (-2.5, -2.5),
        (" 3 ", 3.0),
        (None, 1.0),
        ("07", 7.0),
        ("+7", 7.0),
        ("7.", 7.0),
        ("-.5e1", -5.0),
    ],
)
def test_priorities(given_: object, priority: float) -> None:
    """Numbers and numeric strings are priorities; null is 1."""
    assert parsed_task(priority=given_).priority == priority


@pytest.mark.parametrize("number", [112233, 0, -5, 10**200])
def test_numbers_are_guids(number: int) -> None:
    """Queuebert and ActiveRecord's users send them: their decimal text is meant."""
    found = parsed_task(guid=number, suite_guid=number)
    assert (found.guid, found.suite) == (str(number), str(number))
    message = parse(status(task=number), LIMIT)
    assert isinstance(message, WorkerMessage)
    assert message.task == str(number)


@pytest.mark.parametrize(
    ("given_", "limit"),
    [("600", 600.0), (" 0.5 ", 0.5), ("1e3", 1000.0), ("", None), (None, None), (7, 7.0)],
)
def test_time_limits(given_: object, limit: float | None) -> None:
    """A number, or numeric text as Queuebert passes it on; an empty text is as good as none."""
    assert parsed_task(time_limit=given_).time_limit == limit


BAD_TASKS: list[dict[str, object]] = [
    {"guid": None},
    {"guid": ""},
    {"guid": 7.0},
    {"guid": True},
    {"guid": 10**256},
    {"guid": "x" * 256},
    {"guid": "ä" * 128},
    {"guid": "a\0b"},
    {"guid": "half a pair \ud800"},
    {"resources": ["\udfff"]},
    {"task_type": None},
    {"task_type": ["echo"]},
    {"priority": "high"},
    {"priority": True},
    {"priority": [1]},
    {"priority": 10**400},
    {"priority": "NaN"},
    {"priority": "1_0"},
    {"priority": "0x10"},
    {"priority": "1e999"},
    {"priority": "٣"},
    {"resources": 5},
    {"resources": {"a": 1}},
    {"resources": [1]},
    {"resources": [""]},
    {"resources": ["a", None]},
    {"resources": "a" * 300},
    {"time_limit": 0},
    {"time_limit": -1},
    {"time_limit": "ten"},
    {"time_limit": "0"},
    {"time_limit": " "},
    {"time_limit": "1e999"},
    {"time_limit": False},
    {"suite_guid": 1.5},
    {"suite_guid": [1]},
    {"suite_guid": ""},
]


@pytest.mark.parametrize("fields", BAD_TASKS, ids=repr)
def test_bad_tasks_are_rejected(fields: dict[str, object]) -> None:
    """A task with a field that can't be used belongs in the rejected queue, with a reason."""
    message = parse(task(**fields), LIMIT)
    assert isinstance(message, Invalid)
    assert message.rejected
    assert message.line.text.startswith("TASK_REJECTED|")


BAD_BODIES: list[bytes] = [
    b"",
    b" ",
    b"\xff\xfe",
    b"nonsense",
    b"NaN",
    b"1e400",
    b"null",
    b"[]",
    b"7",
    b'"task"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    task()[:-1],
    task() + b"x",
    b"\xef\xbb\xbf" + task(),
    task().replace(b'"g"', b"NaN"),
    task().replace(b'"g"', b'"\xed\xa0\x80"'),
    task().replace(b'"g"', b'"a\nb"'),
    task(x=1).replace(b'"x": 1', b'"priority": 1e400'),
    b"{'type': 'task'}",
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:24]))
def test_bodies_that_are_no_json_objects_are_rejected(body: bytes) -> None:
    """What can't be read belongs in the rejected queue and is logged as such."""
    message = parse(body, LIMIT)
    assert isinstance(message, Invalid)
    assert message.rejected
    assert message.line.text.startswith("MESSAGE_ERROR|INVALID_JSON|")


@pytest.mark.parametrize("fields", [{}, {"type": "taks"}, {"type": 7}, {"type": None}, {"type": ["task"]}])
def test_unknown_types_are_rejected(fields: dict[str, object]) -> None:
    """A type that nobody knows may be a task mistyped: it is kept."""
    message = parse(json.dumps(fields).encode(), LIMIT)
    assert isinstance(message, Invalid)
    assert message.rejected
    assert message.line.text.startswith("MESSAGE_ERROR|UNKNOWN_TYPE|")


def test_what_we_do_not_look_at_may_be_anything() -> None:
    """Fields that we don't know are opaque: a number out of range there is the worker's business."""
    body = task(x=1).replace(b'"x": 1', b'"task_data": 1e400')
    assert isinstance(parse(body, LIMIT), TaskMessage)


def test_half_a_surrogate_pair() -> None:
    """Half of a surrogate pair is JSON, and opaque where we don't look."""
    assert parsed_task(task_data="\ud83d", **{"\udc00": 1}).guid == "g"
    assert parsed_task(task_data="\\ud83d").guid == "g"
    for bad in (task(x="\ud83d")[:-1], task(x="\ud83d", y=float("nan")), b'["\\ud83d"]'):
        message = parse(bad, LIMIT)
        assert isinstance(message, Invalid)
        assert message.line.text.startswith("MESSAGE_ERROR|INVALID_JSON|")


def test_size_limit() -> None:
    """A message over the limit is rejected, one at the limit is not."""
    body = task(task_data="x" * 100)
    assert isinstance(parse(body, len(body)), TaskMessage)
    message = parse(body, len(body) - 1)
    assert isinstance(message, Invalid)
    assert "at most" in str(message.rejected)


def test_a_line_cannot_be_forged() -> None:
    """A line break or a ``|`` in a message does not get into the log as such."""
    body = json.dumps({"type": "x|y\nDISPATCH|echo|g|w\r\x1b[2J\u2028\u202e\ufeff\ud800"}).encode()
    message = parse(body, LIMIT)
    assert isinstance(message, Invalid)
    text = message.line.text
    assert text.count("|") == 3
    assert text.splitlines() == [text]
    assert text.isprintable()


def status(**fields: object) -> bytes:
    """Return a worker_status; a field given as None is left out."""
    whole = {"type": "worker_status", "name": "w", "exchange_name": "x", "status": "idle", **fields}
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


def test_worker_status() -> None:
    """The README's fields are all there; worker_type and task may be missing."""
    assert parse(status(), LIMIT) == WorkerMessage("w", "x", "idle", None, None)
    full = parse(status(worker_type="t", task="g"), LIMIT)
    assert full == WorkerMessage("w", "x", "idle", "t", "g")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"name": None}, "CONTROL_WARN|PARSE_JSON|MISSING_NAME|x"),
        ({"exchange_name": None}, "CONTROL_FAILED|PARSE_JSON|MISSING_EXCHANGE_NAME|w"),
        ({"status": None}, "CONTROL_FAILED|PARSE_JSON|MISSING_STATUS|w"),
        ({"name": None, "exchange_name": None}, "CONTROL_WARN|PARSE_JSON|MISSING_NAME|"),
        ({"name": 5}, "CONTROL_FAILED|PARSE_JSON|INVALID_FIELD|5|name is a number, expected a string"),
    ],
)
def test_incomplete_worker_status(fields: dict[str, object], line: str) -> None:
    """What is missing is logged in the original's words; it is no task, so it is not kept."""
    message = parse(status(**fields), LIMIT)
    assert isinstance(message, Invalid)
    assert message.line.text == line
    assert message.rejected is None


def control(**fields: object) -> object:
    """Return what a control message says."""
    return parse(json.dumps(fields).encode(), LIMIT)


def test_control_messages() -> None:
    """Each control message is understood."""
    assert control(type="set_state", data="paused") == SetState(ManagerState.PAUSED)
    assert control(type="get_workers") == GetWorkers()
    assert control(type="dispatch_tasks") == DispatchTasks()
    for command in ("pause_suite", "ready_suite", "stop_suite"):
        assert control(type=command, data="s") == SuiteCommand(command, "s")
        assert control(type=command, data=7) == SuiteCommand(command, "7")
        several = control(type=command, data=["s", 112233, "s"])
        assert isinstance(several, SuiteCommand)
        assert several.suites == ("s", "112233")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"type": "set_state"}, "INVALID_JSON|NO_DATA|"),
        ({"type": "set_state", "data": "asleep"}, "INVALID_JSON|INVALID_STATE|asleep|"),
        ({"type": "set_state", "data": {"a": 1}}, "INVALID_JSON|INVALID_STATE|"),
        ({"type": "stop_suite"}, "INVALID_JSON|NO_DATA|"),
        ({"type": "stop_suite", "data": 7.5}, "INVALID_JSON|INVALID_DATA|"),
        ({"type": "stop_suite", "data": []}, "INVALID_JSON|INVALID_DATA|"),
        ({"type": "stop_suite", "data": ["s", None]}, "INVALID_JSON|INVALID_DATA|"),
        ({"type": "stop_suite", "data": [["s"]]}, "INVALID_JSON|INVALID_DATA|"),
        ({"type": "stop_suite", "data": ["s"] * 1001}, "INVALID_JSON|INVALID_DATA|"),
    ],
)
def test_bad_control_data(fields: dict[str, object], line: str) -> None:
    """Bad data is logged in the original's words."""
    message = parse(json.dumps(fields).encode(), LIMIT)
    assert isinstance(message, Invalid)
    assert message.line.text.startswith(line)


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """No bytes bring the parser down, and what it logs is one line."""
    message = parse(body, LIMIT)
    if isinstance(message, Invalid):
        assert "\n" not in message.line.text


TEXT = st.text() | st.text(st.sampled_from("a\ud800\udfff"))
"""Also what no UTF-8 can say, but JSON can."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


FIELDS = [
    *("guid", "task_type", "priority", "resources", "time_limit", "suite_guid"),
    *("name", "worker_type", "exchange_name", "status", "task", "data"),
]


@given(
    st.sampled_from(["task", "worker_status", "set_state", "stop_suite", "get_workers"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
)
def test_any_values(message_type: str, fields: dict[str, object]) -> None:
    """No value in any field brings the parser down."""
    message = parse(json.dumps({"type": message_type, **fields}).encode(), LIMIT)
    if isinstance(message, Invalid):
        assert message.line.text.splitlines() == [message.line.text]


@pytest.mark.parametrize(("excerpt", "shown"), [(0, "… (300 characters)"), (3, "xxx… (300 characters)")])
def test_little_of_a_message_is_logged(excerpt: int, shown: str) -> None:
    """Of what nobody can use only as much as is wanted; the answer to its sender is the same text."""
    for body in (b"x" * 300, task(guid=7.5, more="y" * 300)):
        message = parse(body, LIMIT, excerpt)
        assert isinstance(message, Invalid)
        assert "xxxx" not in message.line.text
        assert "yy" not in message.line.text
    message = parse(b"x" * 300, LIMIT, excerpt)
    assert isinstance(message, Invalid)
    assert message.line.text.endswith(f"|{shown}")
