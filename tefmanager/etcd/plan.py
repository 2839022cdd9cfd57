"""Pure: which claims there is room for, by what is known of the resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from tefmanager.core.model.resources import Resource


class Wanted(Protocol):
    """References an attempt still needs: one of each name."""

    @property
    def names(self) -> Sequence[str]:
        """Names that have an entry or not, each once."""


WantedT = TypeVar("WantedT", bound=Wanted)


@dataclass(slots=True)
class Plan(Generic[WantedT]):
    """What may be done.

    Attributes:
        granted: what there is room for, with the count of each resource after it was added.
        refused: the rest, each with the first resource that has no reference to give.
        counts: the counts of all resources in ``granted`` when that is done.
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
    """Go through the claims in order, each all or none; names without an entry limit nothing.

    ``lowered`` are counts of resources of which something is given back before that.
    """
    result: Plan[WantedT] = Plan()
    for one in wanted:
        known = {name: found for name in one.names if (found := get(name)) is not None}
        held = {name: lowered.get(name, found.held) for name, found in known.items()}
        added = {name: result.counts.get(name, held[name]) + 1 for name in known}
        short = next((name for name in known if not _room(known[name], added[name], local)), None)
        if short is not None:
            result.refused.append((one, short))
        else:
            result.granted.append((one, added))
            result.counts.update(added)
    return result


def _room(resource: Resource, count: int, local: datetime) -> bool:
    return count - resource.held <= resource.free_at(local)
