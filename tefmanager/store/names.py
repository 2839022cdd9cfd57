"""Names in the database: the table prefix, and the number of the lock."""

from __future__ import annotations

import hashlib
import re

LONGEST_NAME = 24
"""The most characters of a table, index, constraint or function after the prefix."""

_IDENTIFIER_BYTES = 63
"""The longest identifier, in bytes. PostgreSQL silently cuts longer ones."""

LONGEST_PREFIX = _IDENTIFIER_BYTES - LONGEST_NAME

_SAFE_PREFIX = re.compile(r"[a-z_][a-z0-9_]*")


def checked_prefix(prefix: str) -> str:
    """Return a table prefix that never needs quoting, or raise `ValueError`."""
    if not _SAFE_PREFIX.fullmatch(prefix) or len(prefix) > LONGEST_PREFIX:
        raise ValueError(
            f"table prefix {prefix!r}: expected a-z, 0-9 and _, not beginning with a digit, "
            f"{LONGEST_PREFIX} characters at most"
        )
    return prefix


def table_prefix_for(env: str, name_prefix: str) -> str:
    """Return the prefix of a manager's tables.

    ``tefmanager_<env>_`` for the environment's own name prefix ``tef.<env>``. Any other name prefix gives
    the readable part of the name and a part of its hash, so that two names never share tables. The
    original's tables begin with ``tef_<env>_``, so both can be in one database.
    """
    head = f"tefmanager_{env}_"
    if name_prefix == f"tef.{env}":
        return head
    digest = hashlib.sha256(name_prefix.encode()).hexdigest()[:6]
    room = LONGEST_PREFIX - len(f"{head}_{digest}_")
    readable = re.sub(r"[^a-z0-9]+", "_", name_prefix.lower()).strip("_")[:room].strip("_")
    return f"{head}{readable}_{digest}_"


def lock_name_for(env: str, name_prefix: str) -> str:
    """Return the name of the lock for which the managers of an environment and name prefix compete."""
    return f"{env}/{name_prefix}"


def lock_key(lock_name: str) -> int:
    """Return the key of the advisory lock: the first 8 bytes of the SHA-256 of ``tef-manager/<name>``.

    They are read as big-endian and signed, like the ``bigint`` of ``pg_advisory_lock``. In ``pg_locks``,
    the upper half is ``classid`` and the lower half ``objid``.
    """
    digest = hashlib.sha256(f"tef-manager/{lock_name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
