"""The results, and the JSON file from which tables and plots can be made again. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Facts = Mapping[str, str | int]

PERCENT_STEPS = 200
"""Number of steps in which a distribution is stored: each half percent, from the least to the most."""


@dataclass(frozen=True)
class Outcome:
    """The result of measuring a case once.

    Attributes:
        values: numbers by name; the name contains the unit.
        series: lists of numbers by name.
    """

    values: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """A case measured in a round.

    Attributes:
        group: the case's group.
        facts: what distinguishes it from the other cases.
        round: counted from 1.
        values, series: see `Outcome`.
    """

    group: str
    facts: Facts
    round: int
    values: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def matches(self, group: str, facts: Facts) -> bool:
        """Tell whether it belongs to a group and has at least these facts."""
        return self.group == group and all(self.facts.get(key) == value for key, value in facts.items())


@dataclass
class Results:
    """All results of a run.

    Attributes:
        machine: the machine and the versions, in the order in which they are shown.
        measurements: in the order in which they were made.
    """

    machine: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)

    def find(self, group: str, **facts: str | int) -> list[Measurement]:
        """Return the measurements of all rounds of the cases with these facts."""
        return [each for each in self.measurements if each.matches(group, facts)]

    def values(self, name: str, group: str, **facts: str | int) -> list[float]:
        """Return one number from each of these measurements."""
        return [each.values[name] for each in self.find(group, **facts) if name in each.values]

    def median(self, name: str, group: str, **facts: str | int) -> float | None:
        """Return the median of these numbers over the rounds, or None if there are none."""
        values = self.values(name, group, **facts)
        return statistics.median(values) if values else None

    def replace(self, new: Results) -> None:
        """Add a newer run: it replaces all results of the groups that it measured."""
        groups = {each.group for each in new.measurements}
        self.machine = new.machine
        self.measurements = [
            *(each for each in self.measurements if each.group not in groups),
            *new.measurements,
        ]

    def save(self, path: Path) -> None:
        """Write them to a file."""
        lines = ",\n".join(json.dumps(_rounded(asdict(each))) for each in self.measurements)
        machine = json.dumps(self.machine, indent=1, ensure_ascii=False)
        path.write_text(f'{{"machine": {machine},\n"measurements": [\n{lines}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read them from a file; empty if there is no file."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text())
        return cls(found["machine"], [Measurement(**each) for each in found["measurements"]])


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value


def distribution(samples: Iterable[float]) -> list[float]:
    """Return the quantiles of samples in steps of half a percent, including least and most."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return [ordered[round(step * last / PERCENT_STEPS)] for step in range(PERCENT_STEPS + 1)]


def percentile(samples: Iterable[float], percent: float) -> float:
    """Return the sample that so many percent of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[round((len(ordered) - 1) * percent / 100)]
