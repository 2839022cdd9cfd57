"""Which error answers of Etcd concern one request, and which the whole service.

A request is *refused* if Etcd has changed nothing and would answer the same again: a right is missing, a
limit of the server is too low, or a key is not what it should be. Then other requests can go on. All other
errors (no leader, no space, login rejected, an unreadable answer) concern all requests: Etcd counts as
unreachable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from math import inf

import msgspec

from tefmanager.core.model.reservations import Impossible
from tefmanager.etcd import auth
from tefmanager.etcd.jobs import Job
from tefmanager.interfaces.etcd import ReservationsLost

NAMES_TOLD = 5
"""How many of the refused resources a text names."""

_INVALID, _DENIED = 3, 7
"""gRPC's codes for errors that lie in the request."""

_OWN_FAULTS = range(102, 300)
"""v2's codes for errors that lie in the request. Lower codes are outcomes, higher ones are the server's
errors."""


class Limit(Enum):
    """What a transaction had too much of."""

    OPERATIONS = auto()
    SIZE = auto()


class NotLetIn(ReservationsLost):
    """Etcd answers, but the client may not make this request, or none at all."""


class RequestRefused(ReservationsLost):
    """Etcd has changed nothing, and would refuse the same request again.

    Attributes:
        fault: Etcd's words, without the address, which may differ the next time.
        limit: what the request had too much of, or None.
        measure: how much of it the request had, if there is a limit.
    """

    def __init__(self, text: str, fault: str) -> None:
        super().__init__(text)
        self.fault = fault
        self.limit = _limit_in(fault)
        self.measure = 0


class _Fault(msgspec.Struct, frozen=True):
    """An error as v3 reports it."""

    error: str = ""
    code: int = 0


def of_v3(body: bytes, text: str) -> ReservationsLost:
    """Return the error for an answer of the v3 gateway; ``text`` describes the answer."""
    try:
        fault = msgspec.json.decode(body, type=_Fault)
    except msgspec.DecodeError:
        return ReservationsLost(text)
    own = fault.code in (_INVALID, _DENIED) and fault.error not in auth.STALE
    if own or _limit_in(fault.error) is not None:
        return RequestRefused(text, fault.error.removeprefix("etcdserver: "))
    return ReservationsLost(text)


def of_v2(code: int, fault: str, text: str) -> ReservationsLost:
    """Return the error for a v2 answer with this code; ``text`` describes the answer."""
    return RequestRefused(text, fault) if code in _OWN_FAULTS else ReservationsLost(text)


def _limit_in(fault: str) -> Limit | None:
    if "too many operations" in fault:
        return Limit.OPERATIONS
    return Limit.SIZE if "request is too large" in fault or "larger than max" in fault else None


def impossible(attempt: int, names: Sequence[str], fault: str) -> Impossible:
    """Return that an attempt's references to these resources can't be taken or given back."""
    more = len(names) - NAMES_TOLD
    told = ", ".join(names[:NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
    return Impossible(attempt, f"resource{'s' if len(names) > 1 else ''} {told}: Etcd refuses: {fault}")


@dataclass(frozen=True, slots=True)
class Culprits:
    """Finds out which jobs of a batch Etcd refuses, so that the others are done.

    Attributes:
        carry_out: carries out jobs, and finishes them.
        smaller: learns a limit; tells whether the same can be done in smaller transactions.
        to_blame: returns the resources because of which a job is refused.
    """

    carry_out: Callable[[Sequence[Job]], Awaitable[None]]
    smaller: Callable[[RequestRefused], bool]
    to_blame: Callable[[Job], Awaitable[Sequence[str]]]

    async def sort_out(self, jobs: Sequence[Job], before: float = inf) -> None:
        """Carry out jobs in order; a job that is refused even alone is finished as `Impossible`.

        ``before``: the measure of the last refused request here. It must decrease, or there is no progress.
        """
        try:
            await self.carry_out(jobs)
        except RequestRefused as refused:
            left = [job for job in jobs if not job.done.called]
            if refused.limit is not None and self.smaller(refused) and refused.measure < before:
                await self.sort_out(left, refused.measure)
            elif len(left) == 1:
                names = await self.to_blame(left[0])
                left[0].finish(impossible(left[0].attempt, names, refused.fault))
            else:
                half = len(left) // 2
                await self.sort_out(left[:half])
                await self.sort_out(left[half:])
