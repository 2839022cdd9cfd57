"""Reads and writes the keys of resources in Etcd, through either API, for one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tefmanager.config.config import Config
from tefmanager.config.kinds import EtcdApi
from tefmanager.ctl.coroutines import finished
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.etcd import tree, v2wire, v3wire
from tefmanager.etcd.auto import has_v2_base
from tefmanager.etcd.cluster import Cluster
from tefmanager.etcd.http import HttpClient
from tefmanager.interfaces.etcd import ReservationsLost

T = TypeVar("T")

_TRIES = 20
"""How many times to try to change a count that others are changing too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value, and the revision at which it was written."""

    value: str
    revision: int


class Keys(Protocol):
    """The operations on Etcd, with paths below the base. All raise `ReservationsLost`."""

    async def read(self) -> dict[str, Entry]:
        """Return all keys."""

    async def put(self, values: Mapping[str, str]) -> None:
        """Write keys."""

    async def release(self, name: str, lock: str) -> bool:
        """Delete a lock key of a resource and lower its count; return False if the key was gone already."""

    async def swap_count(self, name: str, before: Entry, after: int) -> bool:
        """Set a resource's count unless it was written since it was read; return whether it was set."""


class V3Keys:
    """The keys of the v3 API, through its JSON gateway."""

    def __init__(self, http: HttpClient, base: str) -> None:
        self._http = http
        self._base = base

    async def read(self) -> dict[str, Entry]:
        """See `Keys.read`."""
        wanted = v3wire.prefix(f"{self._base}/".encode())
        answer = await v3wire.ask(self._http, "kv/range", wanted, v3wire.RangeAnswer)
        found = ((v3wire.path_below(self._base, pair.key), pair) for pair in answer.kvs)
        return {path: Entry(v3wire.text(pair.value), pair.mod_revision) for path, pair in found if path}

    async def put(self, values: Mapping[str, str]) -> None:
        """See `Keys.put`. All at once, up to what Etcd takes in a transaction."""
        left = [v3wire.put(self._key(path), value) for path, value in values.items()]
        while left:
            batch, left = left[:100], left[100:]
            await self._commit(v3wire.Transaction([], batch, []))

    async def release(self, name: str, lock: str) -> bool:
        """See `Keys.release`. In one transaction, on the count as it was read."""
        count_path, lock_path = f"{name}/{tree.REF_COUNT}", f"{name}/{tree.LOCKS}/{lock}"
        for _ in range(_TRIES):
            known = await self.read()
            count = known.get(count_path, Entry("0", 0))
            if lock_path not in known:
                return False
            same = [
                v3wire.exists(self._key(lock_path)),
                v3wire.unchanged(self._key(count_path), count.revision),
            ]
            writes = [
                v3wire.delete(self._key(lock_path)),
                v3wire.put(self._key(count_path), _less(count.value)),
            ]
            if (await self._commit(v3wire.Transaction(same, writes, []))).succeeded:
                return True
        raise ReservationsLost(f"other programs keep changing {count_path}")

    async def swap_count(self, name: str, before: Entry, after: int) -> bool:
        """See `Keys.swap_count`."""
        key = self._key(f"{name}/{tree.REF_COUNT}")
        same = [v3wire.unchanged(key, before.revision)]
        return (await self._commit(v3wire.Transaction(same, [v3wire.put(key, str(after))], []))).succeeded

    async def _commit(self, transaction: v3wire.Transaction) -> v3wire.TransactionAnswer:
        return await v3wire.ask(self._http, "kv/txn", transaction, v3wire.TransactionAnswer)

    def _key(self, path: str) -> bytes:
        return f"{self._base}/{path}".encode()


class V2Keys:
    """The keys of the v2 API."""

    def __init__(self, http: HttpClient, base: str) -> None:
        self._http = http
        self._base = base

    async def read(self) -> dict[str, Entry]:
        """See `Keys.read`."""
        result = await self._ask("GET", "", recursive=True, quorum=True)
        if result.error_code == v2wire.NOT_FOUND:
            return {}
        below = len(self._base) + 1
        return {
            leaf.key[below:]: Entry(leaf.value or "", leaf.modified_index)
            for leaf in v2wire.leaves(result.node)
        }

    async def put(self, values: Mapping[str, str]) -> None:
        """See `Keys.put`. One after the other: v2 has no transactions."""
        for path, value in values.items():
            await self._ask("PUT", f"/{path}", value)

    async def release(self, name: str, lock: str) -> bool:
        """See `Keys.release`. The lock key goes first: a count that is too high breaks no limit."""
        gone = await self._ask("DELETE", f"/{name}/{tree.LOCKS}/{lock}")
        if gone.error_code == v2wire.NOT_FOUND:
            return False
        path = f"/{name}/{tree.REF_COUNT}"
        for _ in range(_TRIES):
            count = (await self._ask("GET", path, quorum=True)).node.value or "0"
            if not (await self._ask("PUT", path, _less(count), prevValue=count)).error_code:
                return True
        raise ReservationsLost(f"other programs keep changing {name}/{tree.REF_COUNT}")

    async def swap_count(self, name: str, before: Entry, after: int) -> bool:
        """See `Keys.swap_count`."""
        path = f"/{name}/{tree.REF_COUNT}"
        return not (await self._ask("PUT", path, str(after), prevIndex=before.revision)).error_code

    async def _ask(self, method: str, path: str, value: str | None = None, **more: Any) -> v2wire.Result:
        request = v2wire.request(method, self._base + path, value, **more)
        result, _ = await v2wire.ask(self._http, request)
        return result


def _less(count: str) -> str:
    return str(max(0, (tree.number(count) or 0) - 1))


def both(http: HttpClient, config: Config) -> tuple[V2Keys, V3Keys]:
    """Return the keys through both APIs."""
    return V2Keys(http, config.etcd_base), V3Keys(http, config.etcd_base)


async def chosen(http: HttpClient, config: Config) -> Keys:
    """Return the keys through the API that the manager uses."""
    v2, v3 = both(http, config)
    return v2 if await uses_v2(http, config) else v3


async def uses_v2(http: HttpClient, config: Config) -> bool:
    """Tell whether the manager uses the v2 API."""
    if config.etcd_api is EtcdApi.AUTO:
        return await has_v2_base(http, config.etcd_base)
    return config.etcd_api is EtcdApi.V2


def run(config: Config, patience: float, work: Callable[[HttpClient], Awaitable[T]]) -> T:
    """Run a coroutine with a client of Etcd. Can be called once in a process. Raises `CtlError`."""

    async def whole(reactor: Any) -> T:
        http = HttpClient(reactor, Cluster(config.etcd, config.etcd_access), patience)
        try:
            return await work(http)
        finally:
            await http.close()

    try:
        return finished(whole)
    except ReservationsLost as lost:
        raise CtlError(Exit.ETCD, str(lost)) from None
