"""What is written when references are given back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from tefmanager.etcd import tree
from tefmanager.etcd.cache import Cache, Lock

_log = Logger()


def lowered(cache: Cache, locks: Sequence[Lock], own: Callable[[str], int]) -> dict[str, int]:
    """Return the counts to write when lock keys go; a count that can't be lowered is left out.

    ``own`` returns how many lock keys of ours stay on a resource: a count is never lowered below that.
    """
    counts = {}
    for name, number in Counter(lock.name for lock in locks).items():
        value, kept = cache.entry(name, tree.REF_COUNT).value, own(name)
        before = tree.number(value)
        if before is None or before < number + kept:
            _log.warn(
                "ref_count of {name!r} is {value!r}, less than the {number} references that we have",
                name=name,
                value=value,
                number=number + kept,
            )
        after = max(0, kept, (before or 0) - number)
        if before is not None and after < before:
            counts[name] = after
    return counts


def log_removed(lock: Lock) -> None:
    """Tell that another program has removed a lock key of ours."""
    key = f"{lock.name}/{lock.field}"
    _log.warn("lock key {key!r} was removed by another program: its count is left alone", key=key)
