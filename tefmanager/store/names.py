"""Names in the database: the prefix of our tables, and the number of our lock."""

from __future__ import annotations

import hashlib
import re

LONGEST_NAME = 24
"""Most characters that a table, index, constraint or function has after the prefix."""

_IDENTIFIER_BYTES = 63
"""PostgreSQL cuts longer identifiers, silently."""

LONGEST_PREFIX = _IDENTIFIER_BYTES - LONGEST_NAME

_SAFE_PREFIX = re.compile(r"[a-z_][a-z0-9_]*")


def checked_prefix(prefix: str) -> str:
    """Return a table prefix that needs no quoting anywhere, or raise `ValueError`."""
    if not _SAFE_PREFIX.fullmatch(prefix) or len(prefix) > LONGEST_PREFIX:
        raise ValueError(
            f"table prefix {prefix!r}: expected a-z, 0-9 and _, not beginning with a digit, "
            f"{LONGEST_PREFIX} characters at most"
        )
    return prefix


def table_prefix_for(env: str, name_prefix: str) -> str:
    """Return the prefix of a manager's tables.

    ``tefmanager_<env>_`` for the environment's own name prefix ``tef.<env>``; for any other the readable
    part of the name and a piece of its hash, so that two names never share tables. The original's tables
    begin with ``tef_<env>_``, and both can be in one database.
    """
    head = f"tefmanager_{env}_"
    if name_prefix == f"tef.{env}":
        return head
    digest = hashlib.sha256(name_prefix.encode()).hexdigest()[:6]
    room = LONGEST_PREFIX - len(f"{head}_{digest}_")
    readable = re.sub(r"[^a-z0-9]+", "_", name_prefix.lower()).strip("_")[:room].strip("_")
    return f"{head}{readable}_{digest}_"


def lock_name_for(env: str, name_prefix: str) -> str:
    """Return what the managers of an environment and name prefix compete for."""
    return f"{env}/{name_prefix}"


def lock_key(lock_name: str) -> int:
    """Return the key of the advisory lock: the first 8 bytes of SHA-256 of ``tef-manager/<name>``.

    Big endian and signed, the ``bigint`` of ``pg_advisory_lock``. In ``pg_locks`` its upper half is
    ``classid`` and its lower half ``objid``.
    """
    digest = hashlib.sha256(f"tef-manager/{lock_name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
