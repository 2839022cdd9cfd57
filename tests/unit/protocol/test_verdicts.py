"""What a worker says of a task that it ends, whatever it sends."""

from __future__ import annotations

import json

import pytest

from tefmanager.protocol.messages import LONGEST_PROGRESS, WorkerMessage, parse
from tefmanager.protocol.verdicts import LONGEST_DETAILS, LONGEST_MESSAGE, NO_VERDICT, Result, Verdict

LIMIT = 2**24


def said(**fields: object) -> WorkerMessage:
    """Return a status with these fields, as it is read."""
    whole = {"type": "worker_status", "name": "w", "exchange_name": "x", "status": "task_complete"}
    found = parse(json.dumps({**whole, **fields}).encode(), LIMIT)
    assert isinstance(found, WorkerMessage)
    return found


def test_a_worker_that_says_nothing_of_its_task() -> None:
    """As workers always did: the result is unknown, and that is no fault."""
    for fields in ({}, {"result": None, "message": None, "details": None, "retry": None}, {"retry": False}):
        assert (said(**fields).verdict, said(**fields).faults) == (NO_VERDICT, ())


@pytest.mark.parametrize("result", ["passed", "failed", "error"])
def test_a_whole_verdict(result: str) -> None:
    """All of it is kept; details as they came, whatever JSON they are."""
    found = said(result=result, message="ü|\n", details={"n": [1, None, "é"]}).verdict
    assert found == Verdict(Result(result), "ü|\n", json.dumps({"n": [1, None, "é"]}))


@pytest.mark.parametrize("details", [0, False, "", [], {}, "a\0b", 1e300])
def test_details_are_any_json(details: object) -> None:
    """Also those that are empty, false or zero; a NUL stays an escape."""
    assert said(details=details).verdict.details == json.dumps(details)


@pytest.mark.parametrize("result", ["", "PASSED", "unknown", "ok", 1, True, ["passed"], {}, "x" * 5000])
def test_another_result_is_unknown(result: object) -> None:
    """It is told, unless there is none at all; the rest of the message counts."""
    found = said(result=result, message="m")
    assert found.verdict == Verdict(Result.UNKNOWN, "m")
    assert len(found.faults) == (result != "")
    assert all("expected passed, failed or error" in fault for fault in found.faults)


def test_a_long_message_is_cut() -> None:
    """Its first characters are kept, and no NUL, which no database takes."""
    found = said(result="failed", message="\0ü" * 5000).verdict.message
    assert found == "\ufffdü" * (LONGEST_MESSAGE // 2)


@pytest.mark.parametrize("message", [5, True, [], {"a": 1}])
def test_a_message_that_is_no_text(message: object) -> None:
    """It is left out, and told."""
    found = said(result="passed", message=message)
    assert found.verdict == Verdict(Result.PASSED)
    [fault] = found.faults
    assert fault.startswith("message is ")


def test_details_that_are_too_large() -> None:
    """They are left out, and told; as many bytes as may be are kept."""
    assert said(details="x" * (LONGEST_DETAILS - 2)).faults == ()
    found = said(result="passed", details="x" * (LONGEST_DETAILS - 1))
    assert found.verdict == Verdict(Result.PASSED)
    assert found.faults == (
        f"details has {LONGEST_DETAILS + 1} bytes of JSON, at most {LONGEST_DETAILS} are kept",
    )


@pytest.mark.parametrize(
    ("result", "retry"), [("failed", True), ("passed", True), (None, True), ("error", "yes")]
)
def test_only_an_error_is_tried_again(result: str | None, retry: object) -> None:
    """A test's own verdict stands; what else is asked for is told and changes nothing."""
    found = said(result=result, retry=retry)
    assert not found.verdict.retry
    assert len(found.faults) == 1
    assert said(result="error", retry=True).verdict.retry


def test_half_a_surrogate() -> None:
    """One half of a pair can't be stored; it stands as a mark."""
    body = rb'{"type":"worker_status","name":"w","exchange_name":"x","status":"idle","message":"a\ud800"}'
    found = parse(body, LIMIT)
    assert isinstance(found, WorkerMessage)
    assert found.verdict.message == "a\ufffd"


def test_progress_and_limits() -> None:
    """The beginning of the progress is kept; only true announces limits."""
    assert said(progress="p" * 500).progress == "p" * LONGEST_PROGRESS
    none: tuple[object, ...] = (None, 5, [])
    assert [said(progress=value).progress for value in none] == [None, None, None]
    others: tuple[object, ...] = (False, None, 1, "true")
    assert said(limits=True).limits
    assert not any(said(limits=value).limits for value in others)


@pytest.mark.parametrize(
    ("value", "attempt"), [(7, 7), (0, 0), (-1, -1), ("7", None), (7.0, None), (10**30, None)]
)
def test_the_number_of_an_attempt(value: object, attempt: int | None) -> None:
    """A whole number is one, and anything else names no attempt."""
    assert said(attempt=value).attempt == attempt
