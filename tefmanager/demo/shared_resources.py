"""Writes the demo's resources to Etcd and reads them back, through either of its APIs.

A *path* is a key below the base, such as ``database/ref_count``.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

BASE = "/tef/dev/resources/"

_TIMEOUT = 5.0
# Ignore the environment's proxies: Etcd is on this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a resource is in use.

    Attributes:
        name: the resource's name.
        limit: most references at a time.
        held: ``ref_count``.
        locks: how many lock keys there are, one for each reference.
    """

    name: str
    limit: int
    held: int
    locks: int


class Etcd(Protocol):
    """The operations on Etcd. All raise OSError if it does not answer."""

    def put(self, path: str, value: str) -> None:
        """Write a key."""

    def read(self) -> dict[str, str]:
        """Return all values below the base, by path."""


class EtcdV3:
    """The JSON gateway of the v3 API.

    Args:
        url: Etcd's URL, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v3/kv"

    def put(self, path: str, value: str) -> None:
        """Write a key."""
        self._post("put", {"key": _encoded(BASE + path), "value": _encoded(value)})

    def read(self) -> dict[str, str]:
        """Return all values below the base, by path."""
        end = BASE[:-1] + chr(ord("/") + 1)
        answer = self._post("range", {"key": _encoded(BASE), "range_end": _encoded(end)})
        pairs = answer.get("kvs", [])
        return {_decoded(pair["key"]).removeprefix(BASE): _decoded(pair.get("value", "")) for pair in pairs}

    def _post(self, what: str, question: dict[str, str]) -> dict[str, Any]:
        return _ask(f"{self._url}/{what}", json.dumps(question).encode(), "POST", "application/json")


class EtcdV2:
    """The v2 API.

    Args:
        url: Etcd's URL, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v2/keys"

    def put(self, path: str, value: str) -> None:
        """Write a key."""
        form = urllib.parse.urlencode({"value": value}).encode()
        _ask(self._url + BASE + path, form, "PUT", "application/x-www-form-urlencoded")

    def read(self) -> dict[str, str]:
        """Return all values below the base, by path."""
        found: dict[str, str] = {}
        _collect(_ask(f"{self._url}{BASE}?recursive=true", None, "GET", "")["node"], found)
        return found


def _collect(node: dict[str, Any], found: dict[str, str]) -> None:
    if node.get("dir"):
        for child in node.get("nodes", []):
            _collect(child, found)
    else:
        found[node["key"].removeprefix(BASE)] = node["value"]


def _ask(url: str, body: bytes | None, method: str, content_type: str) -> dict[str, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": content_type}, method=method)
    with _opener.open(request, timeout=_TIMEOUT) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def make_etcd(api: str, url: str) -> Etcd:
    """Return a client for the API ``v2`` or ``v3``."""
    return EtcdV2(url) if api == "v2" else EtcdV3(url)


def put_resources(etcd: Etcd, limits: Mapping[str, int]) -> None:
    """Write resources of which no reference is held yet."""
    for name, limit in limits.items():
        fields = {"ref_count": "0", "ref_limit": str(limit), "available": "1", "source": "demo"}
        for field, value in fields.items():
            etcd.put(f"{name}/{field}", value)


def read_use(etcd: Etcd, limits: Mapping[str, int]) -> list[Use]:
    """Return how much of each of these resources is in use."""
    values = etcd.read()
    return [
        Use(
            name,
            limit=int(values[f"{name}/ref_limit"]),
            held=int(values[f"{name}/ref_count"]),
            locks=sum(path.startswith(f"{name}/locks/") for path in values),
        )
        for name in limits
    ]
