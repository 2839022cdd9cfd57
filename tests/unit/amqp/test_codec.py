"""Field tables: every type both ways, and nothing but `TableError` for broken ones."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.amqp.codec import (
    MAX_DEPTH,
    TableError,
    Timestamp,
    WireCodec,
    decode_table,
    encode_table,
    short_text,
)


def table(fields: bytes) -> bytes:
    """Return encoded fields with the table's length before them."""
    return struct.pack(">I", len(fields)) + fields


LETTERS = [
    (b"t\x01", True),
    (b"t\x00", False),
    (b"b\xff", -1),
    (b"B\xff", 255),
    (b"s\xff\xfe", -2),
    (b"u\xff\xfe", 65534),
    (b"I\xff\xff\xff\xff", -1),
    (b"i\xff\xff\xff\xff", 2**32 - 1),
    (b"l" + b"\xff" * 8, -1),
    (b"L" + b"\xff" * 8, 2**64 - 1),
    (b"f" + struct.pack(">f", 1.5), 1.5),
    (b"d" + struct.pack(">d", -0.1), -0.1),
    (b"D\x02\x00\x00\x01\x00", Decimal("2.56")),
    (b"S\x00\x00\x00\x03\xe2\x82\xac", "€"),
    (b"S\x00\x00\x00\x01\xff", b"\xff"),
    (b"x\x00\x00\x00\x01a", b"a"),
    (b"A\x00\x00\x00\x03Vt\x01", [None, True]),
    (b"F\x00\x00\x00\x03\x01aV", {"a": None}),
    (b"T" + struct.pack(">Q", 1700000000), Timestamp(1700000000)),
    (b"V", None),
]


@pytest.mark.parametrize(("encoded", "value"), LETTERS)
def test_every_type(encoded: bytes, value: object) -> None:
    """Each type letter of RabbitMQ is read, also with another field behind it."""
    decoded = decode_table(table(b"\x01k" + encoded + b"\x01zt\x01"))
    assert decoded == {"k": value, "z": True}
    assert type(decoded["k"]) is type(value)


def test_unknown_type() -> None:
    """A type that nobody knows is an error that names it."""
    with pytest.raises(TableError, match="'Z'"):
        decode_table(table(b"\x01kZ\x00"))


def test_key_not_utf8() -> None:
    """A key that is not UTF-8 does not make the table unreadable."""
    assert decode_table(table(b"\x01\xffV")) == {"\\xff": None}


def test_nested_too_deep() -> None:
    """Endless nesting ends in an error of ours, not in the interpreter's."""
    raw = b"V"
    for _ in range(3 * MAX_DEPTH):
        raw = b"A" + table(raw)
    with pytest.raises(TableError, match="deeper"):
        decode_table(table(b"\x01k" + raw))


@given(st.binary(max_size=64))
def test_any_bytes(fields: bytes) -> None:
    """Any bytes are a table or a `TableError`, nothing else."""
    for raw in (fields, table(fields)):
        try:
            decode_table(raw)
        except TableError as error:
            assert str(error)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = texts.filter(lambda key: len(key.encode()) < 256)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**64 - 1).map(Timestamp)
    | st.floats(allow_nan=False)
    | st.decimals(-1000, 1000, places=3)
    | texts
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
)


@given(st.dictionaries(keys, values, max_size=5))
def test_round_trip(fields: dict[str, object]) -> None:
    """What can be encoded is read as it was."""
    assert decode_table(encode_table(fields)) == fields


@given(st.dictionaries(keys, values, min_size=1, max_size=3), st.data())
def test_cut_off(fields: dict[str, object], data: st.DataObject) -> None:
    """A table that ends early is an error."""
    raw = encode_table(fields)
    size = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(TableError):
        decode_table(raw[:size])


def test_other_values() -> None:
    """Dates, tuples and numbers that have no type of their own are sent as near as can be."""
    fields = {
        "date": datetime(2020, 1, 1, tzinfo=UTC),
        "tuple": (1, 2),
        "vast": Decimal("1e99"),
        "not a number": Decimal("NaN"),
        "surrogate": "\ud800",
    }
    assert decode_table(encode_table(fields)) == {
        "date": Timestamp(1577836800),
        "tuple": [1, 2],
        "vast": "1E+99",
        "not a number": "NaN",
        "surrogate": "\\ud800",
    }


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, Timestamp(-1), object(), {1, 2}, {"k" * 256: 1}])
def test_not_encodable(value: object) -> None:
    """A value that has no place in a table is refused with a `TableError`."""
    with pytest.raises(TableError):
        encode_table({"k": value})


def test_short_text_counts_bytes() -> None:
    """A short string's length counts bytes, and more than 255 are refused."""
    assert short_text("€") == b"\x03\xe2\x82\xac"
    assert len(short_text("x" * 255)) == 256
    with pytest.raises(TableError):
        short_text("€" * 86)


def test_method_arguments() -> None:
    """The codec for methods, cured: lengths in bytes, text that is not UTF-8, tables of any kind."""
    stream = BytesIO()
    codec = WireCodec(stream)
    codec.encode_shortstr("é")
    codec.encode_longstr(b"\xff")
    codec.encode_table({"k": [None, -1]})
    stream.seek(0)
    assert codec.decode_shortstr() == "é"
    assert codec.decode_longstr() == "\\xff"
    assert codec.decode_table() == {"k": [None, -1]}
    with pytest.raises(TableError):
        codec.decode_octet()


def test_unreadable_table_of_a_method() -> None:
    """A table in a method that can't be read counts as empty; what follows it is read."""
    codec = WireCodec(BytesIO(table(b"\x01kZ") + b"\x07"))
    assert codec.decode_table() == {}
    assert codec.decode_octet() == 7
