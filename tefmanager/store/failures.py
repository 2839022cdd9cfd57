"""Turns database errors into `StoreLost`, with a text for people."""

from __future__ import annotations

import re

import psycopg2
from twisted.internet.defer import CancelledError

from tefmanager.config.secrets import KNOWN
from tefmanager.interfaces.store import LeadershipOver, StoreConflict, StoreLost

LEADERSHIP_OVER = "TEF01"
"""SQLSTATE: the epoch or the number of turns in the manager's row is not this leadership's."""

LEADERSHIP_OVER_TEXT = (
    "the manager's row is not as this manager left it: "
    "the database was restored, or another manager is active"
)

CONFLICT = "TEF02"
"""SQLSTATE: rows that were to be changed do not exist."""


_NOISE = re.compile(
    r'^(connection to server (at|on socket) ".*?"( \(.*?\))?(, port \d+)? failed: '
    r"|(FATAL|ERROR): +|\[Errno -?\d+\] )+"
    r"|^Is the server running .*"
)


def reason(error: BaseException) -> str:
    """Return an error's text in one line, without libpq's standard prefixes and without secrets."""
    said = error.diag.message_primary if isinstance(error, psycopg2.Error) else None
    lines = [_NOISE.sub("", line.strip()) for line in (said or str(error)).splitlines()]
    return KNOWN.hide(" ".join(line for line in lines if line)) or type(error).__name__


def store_lost(error: Exception) -> StoreLost:
    """Return the `StoreLost` for an error of psycopg2, of txpostgres or of our own."""
    if isinstance(error, StoreLost):
        return error
    if isinstance(error, CancelledError):
        # txpostgres reports the server's statement timeout as this.
        return StoreLost("the database cancelled a statement that took too long")
    code = error.pgcode if isinstance(error, psycopg2.Error) else None
    if code == LEADERSHIP_OVER:
        return LeadershipOver(LEADERSHIP_OVER_TEXT)
    if code == CONFLICT or isinstance(error, (psycopg2.IntegrityError, psycopg2.DataError)):
        return StoreConflict(reason(error))
    return StoreLost(reason(error))
