"""The owner's keys in the v2 API: sets the grid first, then the sign of life, by compare-and-swap."""

from __future__ import annotations

from tefmanager.etcd import v2wire
from tefmanager.etcd.http import HttpClient
from tefmanager.etcd.owner import ALIVE, GRID, Found, Keys


class V2OwnerKeys:
    """See `tefmanager.etcd.ownership.OwnerKeys`."""

    def __init__(self, http: HttpClient, folder: str) -> None:
        self.folder = folder
        self._http = http

    async def read(self) -> Keys:
        """See `OwnerKeys.read`."""
        return Keys(await self._get(GRID), await self._get(ALIVE))

    async def write(self, found: Keys, grid: str, alive: str, ttl: int) -> Keys | None:
        """See `OwnerKeys.write`."""
        known = await self._swap(GRID, found.grid, grid)
        sign = None if known is None else await self._swap(ALIVE, found.alive, alive, ttl)
        return None if sign is None else Keys(known, sign)

    async def leave(self, found: Keys) -> None:
        """See `OwnerKeys.leave`."""
        await self._delete(ALIVE, found.alive)

    async def forget(self, found: Keys) -> bool:
        """See `OwnerKeys.forget`. A manager that starts at the same moment sets the key again."""
        return await self._delete(GRID, found.grid)

    async def _delete(self, name: str, before: Found | None) -> bool:
        index = 0 if before is None else before.revision
        request = v2wire.request("DELETE", f"{self.folder}/{name}", prevIndex=index)
        return not (await v2wire.ask(self._http, request))[0].error_code

    async def _get(self, name: str) -> Found | None:
        request = v2wire.request("GET", f"{self.folder}/{name}", quorum=True)
        result, _ = await v2wire.ask(self._http, request)
        node = result.node
        return None if result.error_code else Found(node.value or "", node.modified_index)

    async def _swap(
        self, name: str, before: Found | None, value: str, ttl: int | None = None
    ) -> Found | None:
        """Set a key if it is still as found; return None if it is not."""
        known = {"prevExist": False} if before is None else {"prevIndex": before.revision}
        request = v2wire.request("PUT", f"{self.folder}/{name}", value, ttl=ttl, **known)
        result, _ = await v2wire.ask(self._http, request)
        return None if result.error_code else Found(value, result.node.modified_index)
