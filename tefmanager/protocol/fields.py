"""The fields of a message: nothing is made of one before its length is known. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

LONGEST_NAME = 255
"""Bytes of UTF-8 in a string that names something: what fits in an AMQP short string."""

LONGEST_VALUE = 6 * LONGEST_NAME + 2
"""Bytes of JSON that a name or a number may have: the longest name, each byte as ``\\u0020``."""

LONGEST_LIST = 1024 * 1024
"""Bytes of JSON that a list of names, or the data of a control message, may have."""


class Bad(Exception):
    """A field that is missing or of the wrong kind, in words."""


_NULL = msgspec.Raw(b"null")


class Fields(msgspec.Struct):
    """The fields we look at, each as the JSON that stands for it.

    Nothing is made of a field before its length is known: 12 MB of empty lists would be 1 GB in memory.
    All other fields are skipped, which leaves them opaque and costs little.
    """

    type: msgspec.Raw = _NULL
    guid: msgspec.Raw = _NULL
    task_type: msgspec.Raw = _NULL
    priority: msgspec.Raw = _NULL
    resources: msgspec.Raw = _NULL
    time_limit: msgspec.Raw = _NULL
    suite_guid: msgspec.Raw = _NULL
    name: msgspec.Raw = _NULL
    worker_type: msgspec.Raw = _NULL
    exchange_name: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL
    task: msgspec.Raw = _NULL
    data: msgspec.Raw = _NULL
    probe: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(Fields).decode
_decode_value = msgspec.json.Decoder().decode
read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"(\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""A pair of surrogates or another escape, as the group; or one half of a pair, without it."""


def read_fields(body: bytes) -> Fields:
    """Return a message's fields. Raises `msgspec.DecodeError`.

    One half of a surrogate pair is JSON (RFC 8259, 8.2), but nothing that msgspec reads. A NUL is put in
    its place: no field that names something may have either.
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
    """Return what a field holds. Raises `Bad` where it is too long, and `msgspec.DecodeError`."""
    check_length(raw, field, at_most)
    return _decode_value(raw)


def check_length(raw: msgspec.Raw, field: str, at_most: int) -> None:
    """Raise `Bad` where a field has more bytes than that."""
    if len(raw) > at_most:
        raise Bad(f"{field} has {len(raw)} bytes of JSON, expected at most {at_most}")


def type_of(fields: Fields) -> str:
    """Return a message's type; empty where it has none that could be one."""
    found = _decode_value(fields.type) if len(fields.type) <= LONGEST_VALUE else None
    return found if isinstance(found, str) else ""


def is_missing(raw: msgspec.Raw) -> bool:
    """Tell whether a field is not there, null, or an empty string."""
    return len(raw) <= len(b"null") and bytes(raw) in (b"null", b'""')


def shown(raw: msgspec.Raw) -> str:
    """Return a field as short text for the log: a string as it is, anything else as JSON."""
    if len(raw) <= LONGEST_VALUE:
        found = _decode_value(raw)
        return found if isinstance(found, str) else bytes(raw).decode()
    start = memoryview(raw)[:LONGEST_VALUE].tobytes().decode("utf-8", "ignore")
    return f"{start}… ({len(raw)} bytes)"
