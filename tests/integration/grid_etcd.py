"""Another program that shares the resources in Etcd, through either API, using only HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import re
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from tests.integration.grid_client import FieldWorker, Grid, ReadmeWorker, Received, RubyWorker, fresh

LOCK = re.compile(r"(?P<client>.*)~(?P<time>[0-9]+)~(?P<count>[0-9]+)")
"""The last part of a lock key."""


class Keys(Protocol):
    """The operations on Etcd's keys that both APIs have."""

    def put(self, key: str, value: str) -> None:
        """Set a key."""

    def get(self, key: str) -> str | None:
        """Return a key's value, or None if it does not exist."""

    def delete(self, key: str) -> None:
        """Remove a key."""

    def below(self, key: str) -> dict[str, str]:
        """Return all keys below a key, with their values."""

    def swap(self, key: str, old: str, new: str) -> bool:
        """Set a key if it has the old value; return whether it had."""


class Http(Protocol):
    """Sends requests to Etcd."""

    def ask(
        self, method: str, path: str, body: str | None, content_type: str, token: str = ""
    ) -> tuple[int, Any]:
        """Return the status and the answer."""


class _Http:
    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=20)

    def ask(
        self, method: str, path: str, body: str | None, content_type: str, token: str = ""
    ) -> tuple[int, Any]:
        """Return the status and the answer."""
        if self._closed_by_server():
            self._connection.close()  # it reconnects by itself
        headers = {"Content-Type": content_type, **({"Authorization": token} if token else {})}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def _closed_by_server(self) -> bool:
        # Between two requests, only the end of the connection can be read.
        kept = self._connection.sock
        return kept is not None and bool(select.select([kept], [], [], 0)[0])


class V2:
    """``/v2/keys``.

    Args:
        server: host and port, or an object that sends the requests.
    """

    def __init__(self, server: tuple[str, int] | Http) -> None:
        self._http = _Http(server) if isinstance(server, tuple) else server

    def _ask(self, method: str, key: str, **form: str) -> tuple[int, Any]:
        body = urlencode(form) if form else None
        path = "/v2/keys" + quote(key)
        return self._http.ask(method, path, body, "application/x-www-form-urlencoded")

    def put(self, key: str, value: str) -> None:
        status, answer = self._ask("PUT", key, value=value)
        assert status in (200, 201), answer

    def get(self, key: str) -> str | None:
        status, answer = self._ask("GET", key)
        return str(answer["node"]["value"]) if status == 200 else None

    def delete(self, key: str) -> None:
        status, answer = self._http.ask("DELETE", f"/v2/keys{quote(key)}?recursive=true", None, "")
        assert status == 200, answer

    def below(self, key: str) -> dict[str, str]:
        status, answer = self._http.ask("GET", f"/v2/keys{quote(key)}?recursive=true&quorum=true", None, "")
        found: dict[str, str] = {}
        todo = [answer["node"]] if status == 200 else []
        while todo:
            node = todo.pop()
            todo += node.get("nodes", [])
            if not node.get("dir"):
                found[node["key"]] = node["value"]
        return found

    def swap(self, key: str, old: str, new: str) -> bool:
        status, answer = self._ask("PUT", key, value=new, prevValue=old)
        assert status in (200, 412), answer
        return status == 200


class V3:
    """``/v3``, the JSON gateway.

    Args:
        server: host and port, or an object that sends the requests.
        token: of a logged-in user; empty if everybody may do everything.
    """

    def __init__(self, server: tuple[str, int] | Http, token: str = "") -> None:
        self._http = _Http(server) if isinstance(server, tuple) else server
        self._token = token

    def _ask(self, path: str, **message: Any) -> Any:
        body, kind = json.dumps(message), "application/json"
        status, answer = self._http.ask("POST", f"/v3/kv/{path}", body, kind, self._token)
        assert status == 200, answer
        return answer

    def put(self, key: str, value: str) -> None:
        self._ask("put", key=_encoded(key), value=_encoded(value))

    def get(self, key: str) -> str | None:
        pairs = self._ask("range", key=_encoded(key)).get("kvs", [])
        return _decoded(pairs[0].get("value", "")) if pairs else None

    def delete(self, key: str) -> None:
        self._ask("deleterange", key=_encoded(key))
        self._ask("deleterange", key=_encoded(f"{key}/"), range_end=_encoded(f"{key}0"))

    def below(self, key: str) -> dict[str, str]:
        answer = self._ask("range", key=_encoded(f"{key}/"), range_end=_encoded(f"{key}0"))
        return {_decoded(pair["key"]): _decoded(pair.get("value", "")) for pair in answer.get("kvs", [])}

    def swap(self, key: str, old: str, new: str) -> bool:
        compare = {"key": _encoded(key), "target": "VALUE", "result": "EQUAL", "value": _encoded(old)}
        put = {"requestPut": {"key": _encoded(key), "value": _encoded(new)}}
        return bool(self._ask("txn", compare=[compare], success=[put]).get("succeeded"))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


APIS: dict[str, type[V2] | type[V3]] = {"v2": V2, "v3": V3}
"""Both APIs, by their names in ``--etcd-api``."""


@dataclass(frozen=True)
class Lock:
    """A lock key: the holder of the reference, since when, and its count."""

    client: str
    time: int
    count: int
    value: str


class Shared:
    """A resource that other programs use too, such as res_man's clients.

    Args:
        keys: the API.
        name: the resource's name.
        env: the environment's name.
    """

    def __init__(self, keys: Keys, name: str, env: str = "dev") -> None:
        self._keys = keys
        self.name = name
        self._path = f"/tef/{env}/resources/{name}"

    def make(self, limit: int | str | None, *, count: int = 0, available: str | None = "1") -> Shared:
        """Create the entry; None leaves a key out."""
        fields = {"source": "test", "ref_count": str(count), "available": available}
        for field, value in {**fields, "ref_limit": None if limit is None else str(limit)}.items():
            if value is not None:
                self.put(field, value)
        return self

    def put(self, field: str, value: str) -> None:
        """Set one of its keys."""
        self._keys.put(f"{self._path}/{field}", value)

    def remove(self) -> None:
        """Remove the entry and everything that belongs to it."""
        self._keys.delete(self._path)

    def fields(self) -> dict[str, str]:
        """Return all keys, with their values."""
        found = self._keys.below(self._path)
        return {key.removeprefix(f"{self._path}/"): value for key, value in found.items()}

    def window(self, name: str = "1", /, **fields: object) -> None:
        """Create or change a window; without these fields it is open all day and limits nothing."""
        usual = {"start_time": "0:00", "end_time": "24:00", "day_of_week": -1, "available": 1, "limit": -1}
        for field, value in {**usual, **fields}.items():
            self.put(f"windows/{name}/{field}", str(value))

    @property
    def count(self) -> int:
        """References held by everybody."""
        return int(self._keys.get(f"{self._path}/ref_count") or "0")

    def locks(self) -> list[Lock]:
        """Return the lock keys."""
        found = []
        for key, value in self.fields().items():
            if key.startswith("locks/"):
                match = LOCK.fullmatch(key.removeprefix("locks/"))
                assert match, key
                found.append(Lock(match["client"], int(match["time"]), int(match["count"]), value))
        return sorted(found, key=lambda lock: (lock.time, lock.count))

    def add(self, step: int) -> int:
        """Take or give back references like another program, by compare-and-swap; return the count."""
        while True:
            old = self.count
            if self._keys.swap(f"{self._path}/ref_count", str(old), str(old + step)):
                return old + step


Make = Callable[..., Shared]
"""Creates a resource with a new name; takes the arguments of `Shared.make`."""


@contextmanager
def makes_resources(keys: Keys) -> Iterator[Make]:
    """Yield a function that creates resources, and remove them all at the end."""
    made: list[Shared] = []

    def make(limit: int | str | None, **fields: Any) -> Shared:
        made.append(Shared(keys, fresh("resource")).make(limit, **fields))
        return made[-1]

    yield make
    for resource in made:
        resource.remove()


def at_work(grid: Grid, *resources: Shared) -> tuple[RubyWorker, Received]:
    """Return a worker that works on a task with these resources."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type, resources=[resource.name for resource in resources])
    received = worker.expect()
    worker.begin(received)
    return worker, received


def all_back(*resources: Shared) -> bool:
    """Tell whether no reference to these resources is held."""
    return all(resource.count == 0 and resource.locks() == [] for resource in resources)


class Witness:
    """A resource that nobody else needs: a task with it is dispatched after all that was due before."""

    def __init__(self, grid: Grid, make: Make) -> None:
        self._grid = grid
        self._resource = make(-1)
        self._worker = ReadmeWorker(grid, fresh("witness"))

    def nothing_for(self, *workers: FieldWorker) -> None:
        """Check that these workers got nothing."""
        self._worker.free()
        self._grid.task(self._worker.worker_type, resources=[self._resource.name])
        received = self._worker.expect()
        self._worker.begin(received)
        self._worker.finish(received)
        self._grid.settle()
        assert not any(worker.inbox for worker in workers)
