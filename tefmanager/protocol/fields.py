"""Reads the fields of a message; decodes a field only after its length has been checked. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

LONGEST_NAME = 255
"""The most bytes of UTF-8 in a name: what fits into an AMQP short string."""

LONGEST_VALUE = 6 * LONGEST_NAME + 2
r"""The most bytes of JSON of a name or a number: the longest name, with each byte as ``\u0020``."""

LONGEST_LIST = 1024 * 1024
"""The most bytes of JSON of a list of names, or of a control message's data."""


class Bad(Exception):
    """A field is missing or invalid; the text says why."""


NULL = msgspec.Raw(b"null")
"""The value of a field that the message does not have; a null that it has is another object."""


class Fields(msgspec.Struct):
    """The fields that we use, each as JSON.

    A field is decoded only after its length has been checked, since 12 MB of empty lists would take 1 GB of
    memory. All other fields are skipped, so they stay opaque and cost little.
    """

    type: msgspec.Raw = NULL
    guid: msgspec.Raw = NULL
    task_type: msgspec.Raw = NULL
    priority: msgspec.Raw = NULL
    resources: msgspec.Raw = NULL
    time_limit: msgspec.Raw = NULL
    suite_guid: msgspec.Raw = NULL
    name: msgspec.Raw = NULL
    worker_type: msgspec.Raw = NULL
    exchange_name: msgspec.Raw = NULL
    status: msgspec.Raw = NULL
    task: msgspec.Raw = NULL
    attempt: msgspec.Raw = NULL
    result: msgspec.Raw = NULL
    message: msgspec.Raw = NULL
    details: msgspec.Raw = NULL
    retry: msgspec.Raw = NULL
    progress: msgspec.Raw = NULL
    limits: msgspec.Raw = NULL
    data: msgspec.Raw = NULL
    probe: msgspec.Raw = NULL


_decode = msgspec.json.Decoder(Fields).decode
_decode_value = msgspec.json.Decoder().decode
read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"(\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""Matches a surrogate pair or another escape as the group, or half of a pair without the group."""


def read_fields(body: bytes) -> Fields:
    """Return a message's fields. Raises `msgspec.DecodeError`.

    Half of a surrogate pair is valid JSON (RFC 8259, 8.2), but msgspec rejects it. It is replaced by NUL:
    no field that names something may contain either.
    """
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not _SURROGATE.search(body):
            raise
        return _decode(_ESCAPE.sub(lambda found: found[1] or rb"\u0000", body))


def value_of(raw: msgspec.Raw, field: str, at_most: int = LONGEST_VALUE) -> Any:
    """Return a field's value. Raises `Bad` if it is too long, and `msgspec.DecodeError`."""
    check_length(raw, field, at_most)
    return _decode_value(raw)


def check_length(raw: msgspec.Raw, field: str, at_most: int) -> None:
    """Raise `Bad` if a field has more than ``at_most`` bytes."""
    if len(raw) > at_most:
        raise Bad(f"{field} has {len(raw)} bytes of JSON, expected at most {at_most}")


def type_of(fields: Fields) -> str:
    """Return a message's type; empty if it has no valid one."""
    found = _decode_value(fields.type) if len(fields.type) <= LONGEST_VALUE else None
    return found if isinstance(found, str) else ""


def is_missing(raw: msgspec.Raw) -> bool:
    """Tell whether a field is missing, null or an empty string."""
    return len(raw) <= len(b"null") and bytes(raw) in (b"null", b'""')


INTEGER = re.compile(rb"0|-?[1-9][0-9]*")
"""A whole number in JSON."""

_MOST_DIGITS = 19
"""Digits of a number that is kept as one: a bigint of the database has no more."""


def whole_number_of(raw: msgspec.Raw) -> int | None:
    """Return a whole number, or None if it is something else, or too large."""
    if raw is NULL or len(raw) > _MOST_DIGITS or not INTEGER.fullmatch(bytes(raw)):
        return None
    return int(bytes(raw))


_FLAGS = {b"true": True, b"false": False, b"null": False}


def flag_of(raw: msgspec.Raw) -> bool | None:
    """Return a boolean, False if it is missing, or None if it is something else."""
    return False if raw is NULL else _FLAGS.get(bytes(memoryview(raw)[:6]))


def text_of(raw: msgspec.Raw, at_most: int) -> str | None:
    """Return the first characters of a string, without any NUL, or None if it is no string."""
    if raw is NULL or bytes(memoryview(raw)[:1]) != b'"':
        return None
    return str(_decode_value(raw))[:at_most].replace("\0", "\ufffd")


def shown(raw: msgspec.Raw) -> str:
    """Return a field as short text for the log: a string as it is, anything else as JSON."""
    if len(raw) <= LONGEST_VALUE:
        found = _decode_value(raw)
        return found if isinstance(found, str) else bytes(raw).decode()
    start = memoryview(raw)[:LONGEST_VALUE].tobytes().decode("utf-8", "ignore")
    return f"{start}… ({len(raw)} bytes)"
