"""Pauses between retries of writes that conflict with other programs' writes."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from tefmanager.support.backoff import Backoff

QUICK = 5
LONGEST = 0.02
"""After how many conflicts in a row there are pauses; the longest pause, in seconds."""


async def pause_after(conflicts: int, reactor: IReactorTime) -> None:
    """Pause, if that is due after this many conflicts in a row."""
    if conflicts > QUICK:
        await Backoff(reactor, LONGEST).pause()
