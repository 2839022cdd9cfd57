"""The single operations by which v2 reads and writes resources and lock keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tefmanager.etcd import tree, v2wire
from tefmanager.etcd.cache import Entry, Everything, Fields, Lock
from tefmanager.etcd.http import HttpClient, Request
from tefmanager.etcd.refusals import RequestRefused
from tefmanager.etcd.settle import LockKey, State
from tefmanager.etcd.timeline import Timeline
from tefmanager.etcd.v2wire import Node, Result


@dataclass(frozen=True, slots=True)
class OneResource:
    """A read of one resource: its keys, our lock keys, everybody's lock keys, and the read's index."""

    fields: Fields
    own: Sequence[Lock]
    locks: Sequence[LockKey]
    revision: int

    @property
    def state(self) -> State:
        """Return what `uncounted` needs."""
        entry = self.fields.get(tree.REF_COUNT, Entry(None, 0))
        return State(tree.number(entry.value) or 0, entry.revision, self.locks)


class Keys:
    """Reads and writes below a base. Every method may raise `ReservationsLost`."""

    def __init__(
        self,
        http: HttpClient,
        base: str,
        prefix: str,
        leading: Callable[[], Awaitable[None]],
        timeline: Timeline,
    ) -> None:
        self._timeline = timeline
        self._http = http
        self._leading = leading
        self._base = base
        self._prefix = prefix

    async def read_everything(self) -> Everything:
        """Read all resources."""
        request = v2wire.request("GET", self._base, recursive=True, quorum=True)
        result, index = await self._ask(request)
        fields: dict[str, dict[str, Entry]] = {}
        locks: list[Lock] = []
        for node, at in self._resource_keys(result):
            if at.is_lock:
                locks.extend(self._own_lock(node, at))
            else:
                fields.setdefault(at.name, {})[at.field] = _entry(node)
        return Everything(fields, locks, index)

    async def read_resource(self, name: str) -> OneResource:
        """Read one resource with all its lock keys."""
        request = v2wire.request("GET", f"{self._base}/{name}", recursive=True, quorum=True)
        result, index = await self._ask(request)
        there = [(node, at) for node, at in self._resource_keys(result) if at.name == name]
        locks = [
            LockKey(at.field, node.value or "", node.created_index, node.modified_index)
            for node, at in there
            if at.is_lock
        ]
        return OneResource(
            fields={at.field: _entry(node) for node, at in there if not at.is_lock},
            own=[lock for node, at in there if at.is_lock for lock in self._own_lock(node, at)],
            locks=locks,
            revision=index,
        )

    async def read_count(self, name: str) -> Entry:
        """Read a resource's count."""
        request = v2wire.request("GET", self._key(name, tree.REF_COUNT), quorum=True)
        result, index = await self._ask(request)
        return Entry(None, index) if result.error_code or result.node.dir else _entry(result.node)

    async def swap_count(self, name: str, before: Entry, after: int) -> Entry | None:
        """Set a count if it is still as it was; return the new entry, or None if it had changed."""
        key = self._key(name, tree.REF_COUNT)
        if before.value is None:
            request = v2wire.request("PUT", key, str(after), prevExist=False)
        else:
            request = v2wire.request("PUT", key, str(after), prevValue=before.value)
        result, _ = await self._ask_to_write(request)
        if result.error_code == v2wire.ALREADY_EXISTS:
            await self._refuse_a_folder(key)
        return None if result.error_code else _entry(result.node)

    async def _refuse_a_folder(self, key: str) -> None:
        """Raise if a key is a folder: it can't be written, however often that is tried."""
        result, _ = await self._ask(v2wire.request("GET", key, quorum=True))
        if result.node.dir:
            raise RequestRefused(f"etcd: {key} is a folder", f"Not a file: {key}")

    async def write(self, lock: Lock, value: str) -> Lock:
        """Write a lock key, whether or not it exists."""
        request = v2wire.request("PUT", self._key(lock.name, lock.field), value)
        result, _ = await self._ask_to_write(request)
        return replace(lock, value=value, revision=result.node.modified_index)

    async def change(self, lock: Lock, value: str) -> Lock | None:
        """Change a lock key's value; return None if the key is gone."""
        request = v2wire.request("PUT", self._key(lock.name, lock.field), value, prevExist=True)
        result, _ = await self._ask_to_write(request)
        return (
            None if result.error_code else replace(lock, value=value, revision=result.node.modified_index)
        )

    async def delete(self, lock: Lock) -> int:
        """Delete a lock key if it exists; return the index at which it is gone."""
        request = v2wire.request("DELETE", self._key(lock.name, lock.field))
        result, index = await self._ask_to_write(request)
        return max(index, result.node.modified_index)

    async def _ask(self, request: Request) -> tuple[Result, int]:
        return await v2wire.ask(self._http, request, self._timeline)

    async def _ask_to_write(self, request: Request) -> tuple[Result, int]:
        await self._leading()
        return await self._ask(request)

    def path(self, key: str) -> str | None:
        """Return a key without the base: "" for the base and its parents, None for other keys."""
        if key.startswith(self._base + "/"):
            return key[len(self._base) + 1 :]
        return "" if (self._base + "/").startswith(key.rstrip("/") + "/") else None

    def _resource_keys(self, result: Result) -> list[tuple[Node, tree.ResourceKey]]:
        nodes = [] if result.error_code else v2wire.leaves(result.node)
        there = ((node, tree.resource_key(self.path(node.key) or "")) for node in nodes)
        return [(node, at) for node, at in there if at is not None]

    def _own_lock(self, node: Node, at: tree.ResourceKey) -> list[Lock]:
        attempt = tree.lock_attempt(self._prefix, at.lock_id)
        if attempt is None:
            return []
        return [Lock(attempt, at.name, at.field, node.value or "", node.modified_index)]

    def _key(self, name: str, field: str) -> str:
        return f"{self._base}/{name}/{field}"


def _entry(node: Node) -> Entry:
    return Entry(node.value or "", node.modified_index)
