"""The v3 gateway's JSON: keys and values in base64, int64 as strings, false and zero fields omitted."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from tefmanager.etcd import refusals
from tefmanager.etcd.http import Answer, HttpClient, Request
from tefmanager.interfaces.etcd import ReservationsLost

NO_GATEWAY = "it has no JSON gateway; its configuration needs enable-grpc-gateway: true"
"""The likely reason why Etcd does not know the paths of the v3 API: a configuration file switches the
gateway off by default."""

DELETE = "DELETE"
"""The type of an event that deletes a key; one that writes a key has no type."""


class Header(msgspec.Struct, frozen=True):
    """The store's revision when the answer was made, from 1, and the store's id."""

    revision: Annotated[int, msgspec.Meta(ge=1)]
    cluster_id: str = ""


class KeyValue(msgspec.Struct, frozen=True):
    """A key, its value and the revision at which the value was set."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0


class RangeAnswer(msgspec.Struct, frozen=True):
    """The keys in a range."""

    header: Header
    kvs: list[KeyValue] = []


class CountAnswer(msgspec.Struct, frozen=True):
    """How many keys stand in a range."""

    count: int = 0


class Pairs(msgspec.Struct, frozen=True):
    """The keys that one operation of a transaction has read."""

    kvs: list[KeyValue] = []


class OperationAnswer(msgspec.Struct, frozen=True):
    """The answer to one operation of a transaction; None if it was no read."""

    response_range: Pairs | None = None


class TransactionAnswer(msgspec.Struct, frozen=True):
    """Whether the comparisons held, and the answers to the operations that were carried out."""

    header: Header
    succeeded: bool = False
    responses: list[OperationAnswer] = []


class Event(msgspec.Struct, frozen=True):
    """A change of one key."""

    kv: KeyValue
    type: str = "PUT"


class WatchAnswer(msgspec.Struct, frozen=True):
    """One message of a watch."""

    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    events: list[Event] = []


class WatchLine(msgspec.Struct, frozen=True):
    """One line of a watch's body."""

    result: WatchAnswer | None = None
    error: msgspec.Raw = msgspec.Raw()


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """Read one key or, with ``range_end``, all keys from that key up to the end."""

    key: bytes
    range_end: bytes = b""
    count_only: bool = False


class Put(msgspec.Struct, frozen=True, omit_defaults=True):
    """Write a key. With a lease, the key is deleted when the lease ends."""

    key: bytes
    value: bytes
    lease: int = 0


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation of a transaction."""

    request_range: Range | None = None
    request_put: Put | None = None
    request_delete_range: Range | None = None


class Compare(msgspec.Struct, frozen=True, omit_defaults=True):
    """One comparison of a transaction; with ``range_end``, every key in the range must meet it."""

    key: bytes
    target: str
    result: str
    range_end: bytes = b""
    mod_revision: int = -1
    create_revision: int = -1


class Transaction(msgspec.Struct, frozen=True):
    """``success`` is carried out if all comparisons hold, otherwise ``failure``."""

    compare: list[Compare]
    success: list[Operation]
    failure: list[Operation]


AnswerT = TypeVar("AnswerT")


def unchanged(key: bytes, mod_revision: int) -> Compare:
    """Compare: a key has not changed since a revision; 0: it does not exist."""
    return Compare(key, "MOD", "EQUAL", mod_revision=mod_revision)


def none_newer(begin: bytes, mod_revision: int) -> Compare:
    """Compare: no key with this prefix was created or changed after a revision."""
    return Compare(begin, "MOD", "LESS", range_end=end_of_prefix(begin), mod_revision=mod_revision + 1)


def exists(key: bytes) -> Compare:
    """Compare: a key exists."""
    return Compare(key, "CREATE", "GREATER", create_revision=0)


def never(key: bytes) -> Compare:
    """Compare: something that is never true, for any key."""
    return Compare(key, "CREATE", "LESS", create_revision=0)


def put(key: bytes, value: str, lease: int = 0) -> Operation:
    """Operation: write a key."""
    return Operation(request_put=Put(key, value.encode(), lease))


def delete(key: bytes) -> Operation:
    """Operation: delete a key."""
    return Operation(request_delete_range=Range(key))


def get(key: bytes) -> Operation:
    """Operation: read a key."""
    return Operation(request_range=Range(key))


def get_range(begin: bytes, end: bytes) -> Operation:
    """Operation: read all keys from ``begin`` up to, but not including, ``end``."""
    return Operation(request_range=Range(begin, end))


def get_prefix(begin: bytes) -> Operation:
    """Operation: read all keys with this prefix."""
    return Operation(request_range=prefix(begin))


def prefix(begin: bytes) -> Range:
    """Return the range of all keys with this prefix."""
    return Range(begin, end_of_prefix(begin))


def how_many(begin: bytes) -> Range:
    """Return a request for the number of all keys that begin so."""
    return Range(begin, end_of_prefix(begin), count_only=True)


def end_of_prefix(begin: bytes) -> bytes:
    """Return the first key after all with this prefix. It must not be empty or end in the byte 255."""
    return begin[:-1] + bytes([begin[-1] + 1])


def text(value: bytes) -> str:
    """Return a value as text, whatever bytes it contains."""
    return value.decode("utf-8", "replace")


def path_below(base: str, key: bytes) -> str | None:
    """Return a key without the base, or None if it is not text."""
    try:
        return key[len(base.encode()) + 1 :].decode()
    except UnicodeDecodeError:
        return None


async def ask(http: HttpClient, path: str, message: msgspec.Struct, kind: type[AnswerT]) -> AnswerT:
    """Send one message and return its answer. Raises `ReservationsLost`, also for Etcd's own errors.

    Raises `RequestRefused` if the error concerns only this request.
    """
    answer = await http.ask(request(path, message))
    try:
        return _read(answer, kind)
    except refusals.RequestRefused:
        raise
    except ReservationsLost:
        http.distrust(answer.server)
        raise


def _read(answer: Answer, kind: type[AnswerT]) -> AnswerT:
    if answer.status == 200:
        return decode(answer.body, kind, answer.server)
    if answer.status == 404:
        raise ReservationsLost(f"{refusal(answer)}: {NO_GATEWAY}")
    raise refusals.of_v3(answer.body, refusal(answer))


def request(path: str, message: Any) -> Request:
    """Return the HTTP request for a message."""
    return Request("POST", f"/v3/{path}", msgspec.json.encode(message))


def decode(body: bytes, kind: type[AnswerT], server: str) -> AnswerT:
    """Return the content of a body. Raises `ReservationsLost` if it can't be decoded."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.DecodeError as error:
        raise ReservationsLost(f"etcd {server}: an answer that can't be read: {error}") from error


def refusal(answer: Answer) -> str:
    """Return an error answer in words."""
    return f"etcd {answer.server}: HTTP {answer.status}: {text(answer.body[:200]).strip()}"
