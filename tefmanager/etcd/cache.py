"""Pure: the known state of all resources, from reads, the watch and our own writes, in any order.

Each piece of news carries the store's revision (v3) or index (v2) at which it was true. Older news never
overwrites newer news.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from tefmanager.core.model.resources import Resource
from tefmanager.etcd import tree
from tefmanager.etcd.changing import Changing
from tefmanager.etcd.settle import INTENT


class Entry(Struct, frozen=True):
    """One key's value (None: the key was deleted) and the revision at which it was set."""

    value: str | None
    revision: int


Fields = Mapping[str, Entry]
"""The keys of one resource, without its lock keys, by field."""

NOTHING = Entry(None, 0)


class Cache:
    """The known state of all resources.

    Args:
        own: returns how many counted lock keys of our own a resource has.
        changing: is told of changes, and knows which earlier states still count.
    """

    def __init__(self, own: Callable[[str], int] = lambda _: 0, changing: Changing | None = None) -> None:
        self._own = own
        self._changing = changing
        self._read_at = 0
        self._fields: dict[str, dict[str, Entry]] = {}
        self._known_at: dict[str, int] = {}
        self._resources: dict[str, Resource] = {}

    def get(self, name: str) -> Resource | None:
        """Return a resource, or None if it has no entry."""
        found = self._resources.get(name)
        return None if found is None else self._complete(found)

    def uncounted(self, name: str) -> int:
        """Return how many of our own references a resource's count does not include."""
        found = self.get(name)
        return 0 if found is None else found.uncounted

    def all(self) -> dict[str, Resource]:
        """Return all resources, by name."""
        return {name: self._complete(found) for name, found in self._resources.items()}

    @property
    def is_empty(self) -> bool:
        """Whether there is no resource."""
        return not self._resources

    def contradiction(self, found: Everything) -> str | None:
        """Return why a read can't be of the Etcd that was known before, or None if it can.

        A key's revision only grows, even if the key is deleted and created again. So a key with a lower
        revision than before belongs to another history, even if the store's own revision is already higher
        than before.
        """
        for name, fields in found.fields.items():
            known = self._fields.get(name, {})
            for field, entry in fields.items():
                before = known.get(field, NOTHING).revision
                if entry.revision < before <= found.revision:
                    key = f"{name}/{field}"
                    return f"it is a different one: {key} has revision {entry.revision}, before {before}"
        return None

    def _complete(self, found: Resource) -> Resource:
        found = found.with_own(self._own(found.name))
        return found if self._changing is None else self._changing.strictest(found)

    def entry(self, name: str, field: str) -> Entry:
        """Return the known state of one key; revision 0 if there is no such key."""
        found = self._fields.get(name, {}).get(field, NOTHING)
        return NOTHING if found.value is None else found

    def windows(self, name: str) -> list[tuple[str, Entry]]:
        """Return the existing keys of a resource's windows."""
        fields = self._fields.get(name, {}).items()
        begin = tree.WINDOWS + "/"
        return [
            (field, entry) for field, entry in fields if field.startswith(begin) and entry.value is not None
        ]

    def read_all(self, found: Mapping[str, Fields], revision: int) -> set[str]:
        """Take in a full read; return the names of the resources that have changed."""
        names = found.keys() | self._fields.keys()
        changed = {name for name in names if self._merge(name, found.get(name, {}), revision)}
        if revision > self._read_at:
            self._read_at = revision
            self._known_at = {name: at for name, at in self._known_at.items() if at > revision}
        return changed

    def read(self, name: str, found: Fields, revision: int) -> bool:
        """Take in a read of one resource; tell whether it has changed."""
        changed = self._merge(name, found, revision)
        self._known_at[name] = max(revision, self._known_at.get(name, 0))
        return changed

    def put(self, name: str, field: str, entry: Entry) -> bool:
        """Take in a change of one key; tell whether it changes the resource."""
        known = self._fields.get(name, {}).get(field, NOTHING)
        if entry.revision <= max(known.revision, self.whole_at(name)):
            return False
        self._fields.setdefault(name, {})[field] = entry
        return self._parse(name)

    def remove_below(self, path: str, revision: int) -> list[str]:
        """Take in that all keys below a path ("": all) were deleted; return the names that changed."""
        changed = []
        for name, fields in list(self._fields.items()):
            gone = [field for field in fields if not path or f"{name}/{field}/".startswith(path + "/")]
            if sum(self.put(name, field, Entry(None, revision)) for field in gone):
                changed.append(name)
        return changed

    def whole_at(self, name: str) -> int:
        """Return the revision up to which everything about a resource has been seen."""
        return max(self._read_at, self._known_at.get(name, 0))

    def _merge(self, name: str, found: Fields, revision: int) -> bool:
        if revision < self.whole_at(name):
            return False
        before = self._fields.get(name, {})
        newer = {field: entry for field, entry in before.items() if entry.revision > revision}
        merged = {**found, **newer}
        if merged == before:
            return False
        self._fields[name] = merged
        if not merged:
            del self._fields[name]
        known = self._resources.get(name)
        self._parse(name)
        if self._changing is not None:
            self._changing.found(known, self._resources.get(name))
        return _present(merged) != _present(before)

    def _parse(self, name: str) -> bool:
        before = self._resources.pop(name, None)
        parsed = tree.resource(name, dict(_present(self._fields.get(name, {}))))
        if parsed is not None:
            self._resources[name] = parsed
        if self._changing is not None and self._read_at:  # what the first read finds does not count as new
            self._changing.changed(before, parsed)
        return parsed != before


def _present(fields: Fields) -> set[tuple[str, str]]:
    return {(field, entry.value) for field, entry in fields.items() if entry.value is not None}


class Lock(Struct, frozen=True):
    """One of our lock keys.

    Attributes:
        attempt: the attempt that holds the reference.
        name: the resource.
        field: the key, without base and name.
        value: the last known value: the count after the reference was added.
        revision: the revision at which it was set.
    """

    attempt: int
    name: str
    field: str
    value: str
    revision: int


class Everything(Struct, frozen=True):
    """A full read: the keys by resource, our own lock keys, and the revision of the read."""

    fields: Mapping[str, Fields]
    locks: Sequence[Lock]
    revision: int


class Locks:
    """Our own lock keys, as far as known."""

    def __init__(self) -> None:
        self._locks: dict[int, dict[tuple[str, str], Lock]] = {}
        self._gone: dict[tuple[str, str], int] = {}
        self._counted: Counter[str] = Counter()

    def add(self, lock: Lock) -> None:
        """Take in that a lock key exists, unless it is known to have been deleted since."""
        key = (lock.name, lock.field)
        if self._gone.get(key, 0) < lock.revision:
            held = self._locks.setdefault(lock.attempt, {})
            self._count(held.get(key), -1)
            held[key] = lock
            self._count(lock, 1)

    def drop(self, lock: Lock, revision: int) -> None:
        """Take in that a lock key was deleted."""
        key = (lock.name, lock.field)
        self._gone[key] = max(revision, self._gone.get(key, 0))
        held = self._locks.get(lock.attempt, {})
        self._count(held.pop(key, None), -1)
        if not held:
            self._locks.pop(lock.attempt, None)

    def counted(self, name: str) -> int:
        """Return how many of our lock keys on a resource its count certainly includes."""
        return self._counted.get(name, 0)

    def _count(self, lock: Lock | None, step: int) -> None:
        if lock is not None and lock.value != INTENT:
            self._counted[lock.name] += step
            if not self._counted[lock.name]:
                del self._counted[lock.name]

    def of(self, attempt: int, name: str) -> list[Lock]:
        """Return an attempt's lock keys on a resource: none, one, or after a mishap several."""
        return [lock for lock in self._locks.get(attempt, {}).values() if lock.name == name]

    def all(self) -> list[Lock]:
        """Return all lock keys."""
        return [lock for locks in self._locks.values() for lock in locks.values()]

    def read_all(self, found: Iterable[Lock], revision: int) -> None:
        """Take in a full read."""
        newer = [lock for lock in self.all() if lock.revision > revision]
        gone = {key: at for key, at in self._gone.items() if at > revision}
        self._locks = {}
        self._counted = Counter()
        self._gone = gone
        for lock in (*found, *newer):
            self.add(lock)

    def held(self) -> dict[int, frozenset[str]]:
        """Return the names of the resources that each attempt holds."""
        return {attempt: frozenset(name for name, _ in locks) for attempt, locks in self._locks.items()}
