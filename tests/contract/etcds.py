"""The Etcds for the contract of reservations: v2, v3 and the fake, each with another program in it.

The other program uses plain HTTP from a thread, and none of the manager's code.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, cast
from urllib.parse import quote, urlencode

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from tefmanager.config.endpoints import EtcdAccess
from tefmanager.core.model.resources import Resource
from tefmanager.etcd.cluster import Cluster
from tefmanager.etcd.http import HttpClient
from tefmanager.etcd.owner import Keys, folder
from tefmanager.etcd.ownership import Owner, OwnerKeys
from tefmanager.etcd.v2 import EtcdV2Reservations
from tefmanager.etcd.v2owner import V2OwnerKeys
from tefmanager.etcd.v3 import EtcdV3Reservations
from tefmanager.etcd.v3owner import V3OwnerKeys
from tefmanager.interfaces.etcd import IReservations, IResourceObserver, Seen
from tests.fakes.reservations import FakeEtcd, FakeReservations

CLOCK = cast(IReactorTime, reactor)
WALL_TIME = 1_700_000_000
MONDAY_NOON = datetime(2024, 1, 1, 12, 0)

PATIENCE = 45.0
"""Seconds to wait for an adapter before a test fails."""


@implementer(IResourceObserver)
class Observer:
    """Records what it is told; ``until`` waits for more."""

    def __init__(self) -> None:
        self.resources: dict[str, Resource] = {}
        self.held: dict[int, frozenset[str]] = {}
        self.lost: list[str] = []
        self.replaced: list[str] = []
        self.calls: list[str] = []
        self.seen: list[Seen] = []
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def resources_seen(self, seen: Seen) -> None:
        self.seen.append(dict(seen))
        for name, resource in seen.items():
            self.resources.pop(name, None)
            if resource is not None:
                self.resources[name] = resource
        self._told("seen")

    def resources_read(self, seen: Seen, held: Mapping[int, frozenset[str]]) -> None:
        self.resources = {name: resource for name, resource in seen.items() if resource is not None}
        self.held = dict(held)
        self._told("read")

    def resources_replaced(self, reason: str) -> None:
        self.replaced.append(reason)
        self._told("replaced")

    def resources_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self._told("lost")

    @property
    def settled(self) -> bool:
        """Whether no resource that it was told of is in the middle of a change."""
        return not any(resource.earlier for resource in self.resources.values())

    def until(self, predicate: Callable[[], object], seconds: float = PATIENCE) -> Deferred[None]:
        """Fire when the predicate holds."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append((predicate, waiter))
        self._look()
        return waiter.addTimeout(seconds, CLOCK)

    def _told(self, what: str) -> None:
        self.calls.append(what)
        self._look()

    def _look(self) -> None:
        for pair in [pair for pair in self._waiting if pair[1].called or pair[0]()]:
            self._waiting.remove(pair)
            if not pair[1].called:
                pair[1].callback(None)


class Foreign(Protocol):
    """Another program that reads and writes below the base."""

    async def set(self, path: str, value: str) -> None:
        """Write a key."""

    async def delete(self, path: str) -> None:
        """Delete a key."""

    async def dump(self) -> dict[str, str]:
        """Return all keys, by path."""


class Twin(Protocol):
    """One Etcd: the other program in it, and the reservations under test."""

    foreign: Foreign
    now: datetime

    def reservations(self, prefix: str, owner: Owner | None = None) -> IReservations:
        """Return the reservations under test, not started."""

    def owner_keys(self, prefix: str) -> OwnerKeys:
        """Return the keys that say who owns the lock keys."""

    async def lose_owner(self, prefix: str) -> None:
        """Delete these keys."""


def http(
    method: str,
    url: str,
    body: bytes | None = None,
    content_type: str = "application/json",
    token: str = "",
) -> Any:
    """Send a request and block; return the JSON of the answer, None if empty, whatever its status."""
    headers = {"Content-Type": content_type} if body is not None else {}
    if token:
        headers["Authorization"] = token
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return json.loads(error.read())


class ForeignV2:
    """Another program that uses the v2 API."""

    def __init__(self, url: str, base: str, token: str = "") -> None:
        self._token = token
        self._url = f"{url}/v2/keys{base}"
        self._base = base

    async def set(self, path: str, value: str) -> None:
        form = "application/x-www-form-urlencoded"
        body = urlencode({"value": value}).encode()
        answer = await deferToThread(http, "PUT", f"{self._url}/{quote(path)}", body, form, self._token)
        assert "node" in answer, answer

    async def delete(self, path: str) -> None:
        answer = await deferToThread(http, "DELETE", f"{self._url}/{quote(path)}", token=self._token)
        assert "node" in answer, answer

    async def dump(self) -> dict[str, str]:
        answer = await deferToThread(http, "GET", f"{self._url}?recursive=true", token=self._token)
        found: dict[str, str] = {}
        self._walk(answer.get("node", {}), found)
        return found

    def _walk(self, node: Any, found: dict[str, str]) -> None:
        for child in node.get("nodes", []):
            if child.get("dir"):
                self._walk(child, found)
            else:
                found[child["key"][len(self._base) + 1 :]] = child["value"]


class ForeignV3:
    """Another program that uses the v3 API."""

    def __init__(self, url: str, base: str, token: str = "") -> None:
        self._token = token
        self._url = f"{url}/v3/kv"
        self._base = base

    async def set(self, path: str, value: str) -> None:
        await self._ask("put", {"key": self._key(path), "value": base64_of(value)})

    async def delete(self, path: str) -> None:
        await self._ask("deleterange", {"key": self._key(path)})

    async def dump(self) -> dict[str, str]:
        end = base64.b64encode(f"{self._base}0".encode()).decode()
        answer = await self._ask("range", {"key": self._key(""), "range_end": end})
        pairs = [(_text(pair["key"]), _text(pair.get("value", ""))) for pair in answer.get("kvs", [])]
        return {key[len(self._base) + 1 :]: value for key, value in pairs}

    def _key(self, path: str) -> str:
        return base64_of(f"{self._base}/{path}")

    async def _ask(self, what: str, message: Any) -> Any:
        body = json.dumps(message).encode()
        answer = await deferToThread(http, "POST", f"{self._url}/{what}", body, token=self._token)
        assert "header" in answer, answer
        return answer


def base64_of(text: str) -> str:
    """Return a text in the encoding of the v3 API."""
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


class ForeignFake:
    """Another program that uses the fake."""

    def __init__(self, etcd: FakeEtcd) -> None:
        self._etcd = etcd

    async def set(self, path: str, value: str) -> None:
        self._etcd.set(path, value)

    async def delete(self, path: str) -> None:
        self._etcd.delete(path)

    async def dump(self) -> dict[str, str]:
        return dict(self._etcd.keys)


class FakeTwin:
    """The fake."""

    def __init__(self) -> None:
        self.etcd = FakeEtcd()
        self.made: list[FakeReservations] = []
        self.foreign: Foreign = ForeignFake(self.etcd)
        self.now = MONDAY_NOON

    def reservations(self, prefix: str, owner: Owner | None = None) -> IReservations:
        times = (lambda: self.now, lambda: WALL_TIME + 0.5)
        made = FakeReservations(self.etcd, prefix, *times, CLOCK, owner)
        self.made.append(made)
        return made

    def owner_keys(self, prefix: str) -> OwnerKeys:
        return self.etcd.owners[prefix]

    async def lose_owner(self, prefix: str) -> None:
        self.etcd.owners[prefix].keys = Keys()


class RealTwin:
    """One of the two APIs of a real Etcd, below a base of its own."""

    def __init__(
        self,
        api: str,
        endpoint: tuple[str, int],
        base: str,
        access: EtcdAccess | None = None,
        token: str = "",
    ) -> None:
        url = f"http://{endpoint[0]}:{endpoint[1]}"
        self.endpoint = endpoint
        self._cluster = Cluster([endpoint], access or EtcdAccess())
        self.base = base
        self.now = MONDAY_NOON
        self.conflicts = 0
        self._url, self._token = url, token
        self._foreign = ForeignV2 if api == "v2" else ForeignV3
        self.foreign: Foreign = self._foreign(url, base, token)
        self._kind = EtcdV2Reservations if api == "v2" else EtcdV3Reservations

    def reservations(
        self, prefix: str, owner: Owner | None = None
    ) -> EtcdV2Reservations | EtcdV3Reservations:
        return self._kind(
            CLOCK,
            self._cluster,
            self.base,
            prefix,
            lambda: self.now,
            lambda: WALL_TIME + 0.5,
            on_conflict=self._conflicted,
            owner=owner,
        )

    def owner_keys(self, prefix: str) -> OwnerKeys:
        http = HttpClient(CLOCK, [self.endpoint])
        kind = V2OwnerKeys if self._kind is EtcdV2Reservations else V3OwnerKeys
        return kind(http, folder(self.base, prefix))

    async def lose_owner(self, prefix: str) -> None:
        foreign = self._foreign(self._url, folder(self.base, prefix), self._token)
        for key in ("alive", "grid"):
            await foreign.delete(key)

    def _conflicted(self) -> None:
        self.conflicts += 1
