"""A worker's verdict on a task that it ends: the result, why, details, and whether to try it elsewhere."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from tefmanager.protocol.fields import NULL, Fields, flag_of, is_missing, shown, text_of

LONGEST_MESSAGE = 1000
"""How many characters of a worker's message are kept."""

LONGEST_DETAILS = 64 * 1024
"""How many bytes of JSON a worker's details may have."""


class Result(StrEnum):
    """The result of a completed task, in its worker's judgement."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """It could not be judged."""
    UNKNOWN = "unknown"
    """The worker has not said, or has said something else."""


_RESULTS = {result.value: result for result in Result if result is not Result.UNKNOWN}


class Verdict(Struct, frozen=True):
    """What a worker says about a task that it ends.

    Attributes:
        result: the result.
        message: why, at most `LONGEST_MESSAGE` characters; or None.
        details: JSON in the worker's own form, at most `LONGEST_DETAILS` bytes; or None.
        retry: the worker's environment is to blame: try the task elsewhere. Only with `ERROR`.
    """

    result: Result = Result.UNKNOWN
    message: str | None = None
    details: str | None = None
    retry: bool = False


NO_VERDICT = Verdict()


def read_verdict(fields: Fields) -> tuple[Verdict, tuple[str, ...]]:
    """Return a worker's verdict on its task, and descriptions of fields that can't be used."""
    if fields.result is fields.message is fields.details is fields.retry is NULL:
        return NO_VERDICT, ()  # as nearly always: to see that at once takes a fraction of the time
    faults: list[str] = []
    result = _result(fields.result, faults)
    message = _message(fields.message, faults)
    details = _details(fields.details, faults)
    return Verdict(result, message, details, _retry(fields.retry, result, faults)), tuple(faults)


def _result(raw: msgspec.Raw, faults: list[str]) -> Result:
    if is_missing(raw):
        return Result.UNKNOWN
    found = _RESULTS.get(shown(raw))
    if found is None:
        faults.append(f"result is {shown(raw)!r}, expected passed, failed or error")
    return found or Result.UNKNOWN


def _message(raw: msgspec.Raw, faults: list[str]) -> str | None:
    if is_missing(raw):
        return None
    text = text_of(raw, LONGEST_MESSAGE)
    if text is None:
        faults.append(f"message is {shown(raw)}, expected a string")
    return text


def _details(raw: msgspec.Raw, faults: list[str]) -> str | None:
    if bytes(memoryview(raw)[:5]) == b"null":
        return None
    if len(raw) > LONGEST_DETAILS:
        faults.append(f"details has {len(raw)} bytes of JSON, at most {LONGEST_DETAILS} are kept")
        return None
    return bytes(raw).decode()


def _retry(raw: msgspec.Raw, result: Result, faults: list[str]) -> bool:
    retry = flag_of(raw)
    if retry is None:
        faults.append(f"retry is {shown(raw)}, expected true or false")
    elif retry and result is not Result.ERROR:
        faults.append(f"retry is true and the result is {result}, expected error")
    return bool(retry) and result is Result.ERROR
