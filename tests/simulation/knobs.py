"""How the grids of some seeds differ from the usual: other limits, other workers, a small prefetch."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tefmanager.core.model.limits import Memory

UNUSUAL = (3, 4, 7, 8)
"""Seeds with these remainders modulo 11 have unusual grids."""

LIMITS: tuple[dict[str, Any], ...] = (
    {"patience": 0.5},
    {"max_attempts": 1},
    {"max_attempts": 0},
    {"time_limit": 6.0},
    {"dispatch_timeout": 5.0},
    {"release_grace": 0.5},
    {"missing_interval": 45.0},
    {"time_limit": 6.0, "missing_interval": 45.0},
    {"time_limit": 6.0, "dispatch_timeout": 5.0, "missing_interval": 45.0},
    {
        "time_limit": 6.0,
        "dispatch_timeout": 5.0,
        "release_grace": 0.5,
        "missing_interval": 45.0,
        "memory": Memory(tasks=1, first=1, most=2),
    },
)

PREFETCHES = (2, 5, 20)


@dataclass(frozen=True)
class Knobs:
    """What may differ in a grid.

    Attributes:
        limits: values for `Limits`, by name.
        readme: all workers speak as the README says.
        prefetch: how many unacknowledged messages the broker sends, or None for the usual number.
    """

    limits: dict[str, Any] = field(default_factory=dict)
    readme: bool = False
    prefetch: int | None = None


def unusual(seed: int) -> bool:
    """Tell whether a seed's grid is unusual."""
    return seed % 11 in UNUSUAL


def knobs(seed: int) -> Knobs:
    """Return how a seed's grid is configured."""
    if not unusual(seed):
        return Knobs()
    chance = random.Random(f"{seed} knobs")
    return Knobs(chance.choice(LIMITS), chance.random() < 0.4, chance.choice(PREFETCHES))
