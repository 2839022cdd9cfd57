"""The owner's keys in the v3 API: both are written in one transaction, ``alive`` with a lease."""

from __future__ import annotations

import msgspec

from tefmanager.etcd import v3wire
from tefmanager.etcd.http import HttpClient
from tefmanager.etcd.owner import ALIVE, GRID, Found, Keys
from tefmanager.etcd.v3wire import RangeAnswer, Transaction, TransactionAnswer


class _Grant(msgspec.Struct, frozen=True):
    ttl: int = msgspec.field(name="TTL")


class _Granted(msgspec.Struct, frozen=True):
    id: int = msgspec.field(name="ID", default=0)


class V3OwnerKeys:
    """See `tefmanager.etcd.ownership.OwnerKeys`. Each renewal uses a new lease; the old one expires."""

    def __init__(self, http: HttpClient, folder: str) -> None:
        self.folder = folder
        self._http = http
        self._grid = f"{folder}/{GRID}".encode()
        self._alive = f"{folder}/{ALIVE}".encode()

    async def read(self) -> Keys:
        """See `OwnerKeys.read`."""
        wanted = v3wire.prefix(f"{self.folder}/".encode())
        answer = await v3wire.ask(self._http, "kv/range", wanted, RangeAnswer)
        there = {pair.key: Found(v3wire.text(pair.value), pair.mod_revision) for pair in answer.kvs}
        return Keys(there.get(self._grid), there.get(self._alive))

    async def write(self, found: Keys, grid: str, alive: str, ttl: int) -> Keys | None:
        """See `OwnerKeys.write`."""
        granted = await v3wire.ask(self._http, "lease/grant", _Grant(ttl), _Granted)
        same = [
            v3wire.unchanged(self._grid, found.grid.revision if found.grid else 0),
            v3wire.unchanged(self._alive, found.alive.revision if found.alive else 0),
        ]
        writes = [v3wire.put(self._alive, alive, lease=granted.id)]
        if found.grid is None or found.grid.value != grid:
            writes.append(v3wire.put(self._grid, grid))
        answer = await v3wire.ask(self._http, "kv/txn", Transaction(same, writes, []), TransactionAnswer)
        if not answer.succeeded:
            return None
        revision = answer.header.revision
        kept = found.grid if found.grid is not None and len(writes) == 1 else Found(grid, revision)
        return Keys(kept, Found(alive, revision))

    async def leave(self, found: Keys) -> None:
        """See `OwnerKeys.leave`."""
        same = [v3wire.unchanged(self._alive, found.alive.revision if found.alive else 0)]
        deletion = Transaction(same, [v3wire.delete(self._alive)], [])
        await v3wire.ask(self._http, "kv/txn", deletion, TransactionAnswer)

    async def forget(self, found: Keys) -> bool:
        """See `OwnerKeys.forget`."""
        same = [
            v3wire.unchanged(self._grid, found.grid.revision if found.grid else 0),
            v3wire.unchanged(self._alive, 0),
        ]
        deletion = Transaction(same, [v3wire.delete(self._grid)], [])
        return (await v3wire.ask(self._http, "kv/txn", deletion, TransactionAnswer)).succeeded
