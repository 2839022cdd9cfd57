"""Encodes and decodes field tables and method arguments, with every type that RabbitMQ and clients use.

The types and their letters are RabbitMQ's (https://www.rabbitmq.com/amqp-0-9-1-errata). They differ from
those in the AMQP 0-9-1 document where the two disagree.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from txamqp.codec import Codec

MAX_DEPTH = 64
"""Nested tables and arrays are decoded down to this depth."""

MAX_SHORT_TEXT = 255
"""The most bytes of a short string: names, keys, correlation ids."""


class TableError(ValueError):
    """A field table can't be decoded, or a value can't be encoded into one."""


class Timestamp(int):
    """A unix time as a field of type timestamp."""


_FIXED: dict[int, struct.Struct] = {
    letter: struct.Struct(form)
    for letter, form in zip(
        b"bBsuIilLfd", (">b", ">B", ">h", ">H", ">i", ">I", ">q", ">Q", ">f", ">d"), strict=True
    )
}
_LONG = struct.Struct(">I")
_DECIMAL = struct.Struct(">Bi")
_INT32 = struct.Struct(">ci")
_INT64 = struct.Struct(">cq")
_UINT64 = struct.Struct(">cQ")
_DOUBLE = struct.Struct(">cd")


# --- Decoding --------------------------------------------------------------------------------


def decode_table(raw: bytes) -> dict[str, object]:
    """Return the fields of an encoded table, which begins with the four bytes of its length.

    Text that is not UTF-8 is returned as bytes, a timestamp as `Timestamp`, a decimal as `Decimal`. Raises
    `TableError` if the table contains an unknown type or is cut off.
    """
    try:
        fields, end = _table(raw, 0, 0)
    except (struct.error, IndexError):
        raise TableError("the table is cut off") from None
    if end != len(raw):
        raise TableError(f"{len(raw) - end} bytes follow the table")
    return fields


def _table(raw: bytes, pos: int, depth: int) -> tuple[dict[str, object], int]:
    pos, end = _span(raw, pos, depth)
    fields: dict[str, object] = {}
    while pos < end:
        stop = pos + 1 + raw[pos]
        name = raw[pos + 1 : stop].decode("utf-8", "backslashreplace")
        fields[name], pos = _value(raw, stop, depth)
    return fields, _at_end(pos, end)


def _array(raw: bytes, pos: int, depth: int) -> tuple[list[object], int]:
    pos, end = _span(raw, pos, depth)
    items: list[object] = []
    while pos < end:
        item, pos = _value(raw, pos, depth)
        items.append(item)
    return items, _at_end(pos, end)


def _span(raw: bytes, pos: int, depth: int) -> tuple[int, int]:
    if depth > MAX_DEPTH:
        raise TableError(f"tables are nested deeper than {MAX_DEPTH}")
    end = pos + 4 + int(_LONG.unpack_from(raw, pos)[0])
    if end > len(raw):
        raise TableError("the table is cut off")
    return pos + 4, end


def _at_end(pos: int, end: int) -> int:
    if pos != end:
        raise TableError("a field reaches over the end of its table")
    return end


def _value(raw: bytes, pos: int, depth: int) -> tuple[object, int]:
    letter = raw[pos]
    form = _FIXED.get(letter)
    if form is not None:
        return form.unpack_from(raw, pos + 1)[0], pos + 1 + form.size
    reader = _READERS.get(letter)
    if reader is None:
        raise TableError(f"unknown field type {bytes([letter])!r}")
    return reader(raw, pos + 1, depth)


def _longstr(raw: bytes, pos: int, depth: int) -> tuple[bytes, int]:
    start, end = _span(raw, pos, depth)
    return raw[start:end], end


def _text(raw: bytes, pos: int, depth: int) -> tuple[object, int]:
    value, end = _longstr(raw, pos, depth)
    try:
        return value.decode(), end
    except UnicodeDecodeError:
        return value, end


def _boolean(raw: bytes, pos: int, depth: int) -> tuple[bool, int]:
    return raw[pos] != 0, pos + 1


def _timestamp(raw: bytes, pos: int, depth: int) -> tuple[Timestamp, int]:
    return Timestamp(struct.unpack_from(">Q", raw, pos)[0]), pos + 8


def _decimal(raw: bytes, pos: int, depth: int) -> tuple[Decimal, int]:
    places, number = _DECIMAL.unpack_from(raw, pos)
    return Decimal(number).scaleb(-places), pos + _DECIMAL.size


def _void(raw: bytes, pos: int, depth: int) -> tuple[None, int]:
    return None, pos


def _deeper_table(raw: bytes, pos: int, depth: int) -> tuple[object, int]:
    return _table(raw, pos, depth + 1)


def _deeper_array(raw: bytes, pos: int, depth: int) -> tuple[object, int]:
    return _array(raw, pos, depth + 1)


_READERS: dict[int, Callable[[bytes, int, int], tuple[object, int]]] = {
    ord("S"): _text,
    ord("x"): _longstr,
    ord("t"): _boolean,
    ord("T"): _timestamp,
    ord("D"): _decimal,
    ord("V"): _void,
    ord("F"): _deeper_table,
    ord("A"): _deeper_array,
}


# --- Encoding --------------------------------------------------------------------------------


def encode_table(fields: Mapping[str, object]) -> bytes:
    """Return a table as bytes, including its length.

    Accepts text, bytes, booleans, integers of up to 64 bits, floats, None, `Decimal`, `datetime`,
    `Timestamp`, sequences and mappings. Raises `TableError` for anything else.
    """
    return _long_bytes(b"".join(_field(name, value, 0) for name, value in fields.items()))


def short_text(value: bytes | str) -> bytes:
    """Return a short string as bytes, including its length. Raises `TableError` over 255 bytes."""
    data = _utf8(value) if isinstance(value, str) else value
    if len(data) > MAX_SHORT_TEXT:
        raise TableError(f"{len(data)} bytes in a short string, at most {MAX_SHORT_TEXT} fit")
    return bytes((len(data),)) + data


def _field(name: str, value: object, depth: int) -> bytes:
    return short_text(name) + _encoded(value, depth)


def _encoded(value: object, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise TableError(f"values are nested deeper than {MAX_DEPTH}")
    for kind, writer in _WRITERS:
        if isinstance(value, kind):
            return writer(value, depth)
    raise TableError(f"a {type(value).__name__} can't be put into a field table")


def _long_bytes(data: bytes) -> bytes:
    return _LONG.pack(len(data)) + data


def _utf8(text: str) -> bytes:
    # A lone surrogate has no encoding. User text may contain one, and must still be publishable.
    return text.encode("utf-8", "backslashreplace")


def _write_int(value: int, depth: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return _INT32.pack(b"I", value)
    if -(2**63) <= value < 2**63:
        return _INT64.pack(b"l", value)
    raise TableError("a whole number has more than 64 bits")


def _write_timestamp(value: int, depth: int) -> bytes:
    if not 0 <= value < 2**64:
        raise TableError(f"a timestamp can't be {int(value)}")
    return _UINT64.pack(b"T", value)


def _write_decimal(value: Decimal, depth: int) -> bytes:
    sign, digits, exponent = value.as_tuple()
    number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
    if not isinstance(exponent, int) or not -255 <= exponent <= 0 or abs(number) >= 2**31:
        # Too large for the type; as text it arrives complete.
        return b"S" + _long_bytes(str(value).encode())
    return b"D" + _DECIMAL.pack(-exponent, number)


def _write_array(items: Sequence[object], depth: int) -> bytes:
    return b"A" + _long_bytes(b"".join(_encoded(item, depth + 1) for item in items))


def _write_mapping(fields: Mapping[str, object], depth: int) -> bytes:
    return b"F" + _long_bytes(b"".join(_field(str(k), v, depth + 1) for k, v in fields.items()))


# The order matters: a bool and a Timestamp are ints too, and text and bytes are sequences.
_WRITERS: tuple[tuple[type, Callable[..., bytes]], ...] = (
    (str, lambda value, depth: b"S" + _long_bytes(_utf8(value))),
    (bool, lambda value, depth: b"t\x01" if value else b"t\x00"),
    (Timestamp, _write_timestamp),
    (int, _write_int),
    (float, lambda value, depth: _DOUBLE.pack(b"d", value)),
    (bytes, lambda value, depth: b"x" + _long_bytes(value)),
    (type(None), lambda value, depth: b"V"),
    (datetime, lambda value, depth: _write_timestamp(int(value.timestamp()), depth)),
    (Decimal, _write_decimal),
    (Mapping, _write_mapping),
    (Sequence, _write_array),
)


# --- Methods ---------------------------------------------------------------------------------


class WireCodec(Codec):  # type: ignore[misc]  # txamqp has no types
    """txamqp's codec for method arguments, with lengths in bytes and all types in tables."""

    def read(self, n: int) -> bytes:
        """Return exactly ``n`` bytes, or raise `TableError` if the method is cut off."""
        data: bytes = self.stream.read(n)
        if len(data) != n:
            raise TableError("the method is cut off")
        self.nread += n
        return data

    def enc_str(self, fmt: str, s: bytes | str) -> None:
        """Write a string; its length counts bytes."""
        data = _utf8(s) if isinstance(s, str) else s
        if fmt == "!B" and len(data) > MAX_SHORT_TEXT:
            raise TableError(f"{len(data)} bytes in a short string, at most {MAX_SHORT_TEXT} fit")
        self.pack(fmt, len(data))
        self.write(data)

    def dec_str(self, fmt: str) -> str:
        """Read a string as text; bytes that are not UTF-8 become backslash escapes."""
        return str(self.read(self.unpack(fmt)), "utf-8", "backslashreplace")

    def encode_table(self, tbl: Mapping[str, object]) -> None:
        """Write a table."""
        self.write(encode_table(tbl))

    def decode_table(self) -> dict[str, object]:
        """Read a table; one that can't be decoded counts as empty."""
        size = self.read(4)
        raw = size + self.read(_LONG.unpack(size)[0])
        try:
            return decode_table(raw)
        except TableError:
            return {}
