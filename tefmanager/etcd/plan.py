"""Pure: which reservations can be granted, by the known state of the resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from tefmanager.core.model.resources import Resource


class Wanted(Protocol):
    """The references that an attempt still needs: one of each resource."""

    @property
    def names(self) -> Sequence[str]:
        """The resources, with or without an entry, each once."""


WantedT = TypeVar("WantedT", bound=Wanted)


@dataclass(slots=True)
class Plan(Generic[WantedT]):
    """Which reservations can be granted.

    Attributes:
        granted: the reservations that can be granted, with each resource's count after the reservation.
        refused: the other reservations, each with the first resource that has no reference to give.
        counts: the final counts of all resources in ``granted``.
    """

    granted: list[tuple[WantedT, dict[str, int]]] = field(default_factory=list)
    refused: list[tuple[WantedT, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


NOTHING_LOWERED: Mapping[str, int] = {}


def plan(
    wanted: Sequence[WantedT],
    get: Callable[[str], Resource | None],
    local: datetime,
    lowered: Mapping[str, int] = NOTHING_LOWERED,
) -> Plan[WantedT]:
    """Go through the reservations in order, all or none of each; a name without an entry limits nothing.

    ``lowered``: counts of resources of which references are given back first.
    """
    result: Plan[WantedT] = Plan()
    for one in wanted:
        known = {name: found for name in one.names if (found := get(name)) is not None}
        held = {name: lowered.get(name, found.held) for name, found in known.items()}
        added = {name: result.counts.get(name, held[name]) + 1 for name in known}
        short = next((name for name in known if not _fits(known[name], added[name], local)), None)
        if short is not None:
            result.refused.append((one, short))
        else:
            result.granted.append((one, added))
            result.counts.update(added)
    return result


def _fits(resource: Resource, count: int, local: datetime) -> bool:
    return count - resource.held <= resource.free_at(local)
