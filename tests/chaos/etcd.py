"""Administers Etcd directly, not through the proxies, as root."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from tests.chaos.judge import Change
from tests.contract.etcds import http as ask
from tests.contract.own_etcd import Users
from tests.integration.grid_etcd import V3

BASE = "/tef/dev/resources"
OWNER = "/tef/dev/managers"
"""The key in which managers record who owns the lock keys."""

LAST = f"{BASE}0"
"""A key that is written after all others, and sorts right behind them."""


class Administrator:
    """Root of an Etcd in which everybody else has only the rights that they were given.

    Args:
        endpoint: its host and port.
    """

    def __init__(self, endpoint: tuple[str, int]) -> None:
        self._endpoint = endpoint
        self._url = f"http://{endpoint[0]}:{endpoint[1]}"
        self._users = Users(self._url)

    async def let_in(self, *resources: str) -> None:
        """Enable authentication: only the managers get in, and they may change these resources."""
        await self._users.let_nobody_in("v3")
        for resource in resources:
            await self.permit(resource)
        await self._users.permit("v3", f"{OWNER}/")

    async def permit(self, resource: str) -> None:
        """Allow the managers to change a resource."""
        await self._users.permit("v3", f"{BASE}/{resource}/")

    async def forbid(self, resource: str) -> None:
        """Allow the managers only to read a resource."""
        await self._users.forbid("v3", f"{BASE}/{resource}/")

    def keys(self) -> V3:
        """Return the keys, for root. Raises `AssertionError` or `OSError` if Etcd does not answer."""
        return V3(self._endpoint, self._token())

    def changes(self) -> Iterator[Change]:
        """Yield every change of the resources ever made: Etcd keeps its history until it is compacted."""
        self.keys().put(LAST, "")
        counts: dict[str, int] = {}
        locks: dict[str, set[str]] = {}
        for revision, events in groupby(self._events(), key=lambda event: int(event["kv"]["mod_revision"])):
            touched = set()
            for event in events:
                resource, _, field = _text(event["kv"]["key"]).removeprefix(f"{BASE}/").partition("/")
                held = locks.setdefault(resource, set())
                if field == "ref_count":
                    counts[resource] = int(_text(event["kv"]["value"]))
                elif field.startswith("locks/"):
                    (held.discard if event.get("type") == "DELETE" else held.add)(field)
                else:
                    continue
                touched.add(resource)
            for resource in sorted(touched):
                yield Change(revision, resource, counts.get(resource, 0), len(locks[resource]))

    def _events(self) -> Iterator[dict[str, Any]]:
        """Yield all changes of keys below the base, up to the last one."""
        request = {"key": _coded(f"{BASE}/"), "range_end": _coded(f"{BASE}1"), "start_revision": "1"}
        connection = http.client.HTTPConnection(*self._endpoint, timeout=30)
        try:
            body = json.dumps({"create_request": request})
            connection.request("POST", "/v3/watch", body, {"Authorization": self._token()})
            answer = connection.getresponse()
            while True:
                for event in json.loads(answer.readline())["result"].get("events", ()):
                    if _text(event["kv"]["key"]) == LAST:
                        return
                    yield event
        finally:
            connection.close()

    def _token(self) -> str:
        """Log in. Etcd forgets tokens when it restarts, so none is kept."""
        account = json.dumps({"name": "root", "password": "root"}).encode()
        answer = ask("POST", f"{self._url}/v3/auth/authenticate", account)
        assert "token" in answer, answer
        return str(answer["token"])


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(coded: str) -> str:
    return base64.b64decode(coded).decode()
