"""A case: one thing that can be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.results import Facts, Outcome
from benchmarks.services.bench import Bench

Measure: TypeAlias = Callable[[Bench], Outcome]


@dataclass(frozen=True)
class Case:
    """One thing that can be measured.

    Attributes:
        group: what it is measured for.
        facts: what distinguishes it from the other cases of its group.
        seconds: about how long it takes.
        headline: name of the number that people see at once.
        measure: measures it.
        once: only in the first round.
    """

    group: str
    facts: Facts
    seconds: float
    headline: str
    measure: Measure
    once: bool = False

    @property
    def title(self) -> str:
        """Its description, for people."""
        return f"{self.group}: " + ", ".join(_shown(key, value) for key, value in self.facts.items())


def _shown(key: str, value: str | int) -> str:
    if isinstance(value, str):
        return value
    return f"{key} {value}" if key in ("of", "patience") else f"{value} {key}"
