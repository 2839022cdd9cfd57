"""Pauses after writes that have to be tried again, because others had changed what they were decided by."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from tefmanager.support.backoff import Backoff

QUICK = 5
LONGEST = 0.02
"""Conflicts in a row after which there are short pauses; the longest of these, in seconds."""


async def pause_after(conflicts: int, reactor: IReactorTime) -> None:
    """Pause after so many conflicts in a row, if that is due."""
    if conflicts > QUICK:
        await Backoff(reactor, LONGEST).pause()
