"""The v2 keys API's requests and answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from tefmanager.etcd import refusals
from tefmanager.etcd.http import FORM, HttpClient, Request
from tefmanager.etcd.timeline import Timeline
from tefmanager.interfaces.etcd import ReservationsLost

NOT_FOUND = 100
COMPARE_FAILED = 101
ALREADY_EXISTS = 105
"""Error codes of Etcd."""

_EXPECTED = frozenset({NOT_FOUND, COMPARE_FAILED, ALREADY_EXISTS})


class Node(msgspec.Struct, frozen=True, rename="camel"):
    """A key with its value, or a folder with its nodes."""

    key: str = ""
    value: str | None = None
    dir: bool = False
    nodes: list[Node] = []
    modified_index: int = 0
    created_index: int = 0


class Result(msgspec.Struct, frozen=True, rename="camel"):
    """The content of an answer.

    Attributes:
        action: what was done ("get", "set", "delete", "expire" …).
        node: the key afterwards.
        error_code: 0, or one of the expected codes above.
        index: in an error, the store's index.
    """

    action: str = ""
    node: Node = Node()
    error_code: int = 0
    message: str = ""
    cause: str = ""
    index: int = 0


def is_here(body: bytes) -> bool:
    """Tell whether a body is an answer of the v2 API, and not a page that says there is none."""
    try:
        result = msgspec.json.decode(body, type=Result)
    except msgspec.DecodeError:
        return False
    return bool(result.action or result.error_code)


def request(method: str, key: str, value: str | None = None, **options: Any) -> Request:
    """Return a request for a key; options that are None are left out.

    The options are those of the API: ``prevExist``, ``prevValue``, ``recursive`` …
    """
    given = {name: _word(option) for name, option in options.items() if option is not None}
    query = f"?{urlencode(given, quote_via=quote)}" if given else ""
    body = None if value is None else urlencode({"value": value}).encode()
    return Request(method, f"/v2/keys{quote(key)}{query}", body, FORM)


def _word(option: object) -> str:
    return str(option).lower() if isinstance(option, bool) else str(option)


async def ask(http: HttpClient, request: Request, timeline: Timeline | None = None) -> tuple[Result, int]:
    """Send a request; return its result and the index at which the result was true.

    Raises `ReservationsLost`, also for unexpected errors.
    """
    before = 0 if timeline is None else timeline.newest
    answer = await http.ask(request)
    if not is_here(answer.body):
        http.distrust(answer.server)
    result = read(answer.body, answer.status, answer.server)
    index = result.index or answer.index
    if timeline is not None:
        timeline.answered(before, index, answer.cluster)
    return result, index


def read(body: bytes, status: int, server: str) -> Result:
    """Return the content of an answer. Raises `ReservationsLost` for unexpected errors.

    Raises `RequestRefused` if the error concerns only this request.
    """
    text = body[:200].decode("utf-8", "replace").strip()
    refusal = f"etcd {server}: HTTP {status} from the v2 API: {text}"
    try:
        result = msgspec.json.decode(body, type=Result)
    except msgspec.DecodeError as error:
        raise ReservationsLost(refusal) from error
    if not (result.action or result.error_code):
        raise ReservationsLost(refusal)
    if status not in (200, 201) and result.error_code not in _EXPECTED:
        raise refusals.of_v2(result.error_code, f"{result.message}: {result.cause}", refusal)
    return result


def leaves(node: Node) -> Iterator[Node]:
    """Return all keys below a folder; for a key, the key itself."""
    if not node.dir:
        yield node
        return
    for child in node.nodes:
        yield from leaves(child)
