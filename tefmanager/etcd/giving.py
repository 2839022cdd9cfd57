"""What to write when references are given back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from tefmanager.etcd import tree
from tefmanager.etcd.cache import Cache, Lock

_log = Logger()


def lowered(cache: Cache, locks: Sequence[Lock], own: Callable[[str], int]) -> dict[str, int]:
    """Return the counts to write when these lock keys go; leaves out counts that can't be lowered.

    ``own`` returns how many of our lock keys remain on a resource. A count is never lowered below that.
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
    """Log that another program has removed one of our lock keys."""
    key = f"{lock.name}/{lock.field}"
    _log.warn("lock key {key!r} was removed by another program: its count is left alone", key=key)
