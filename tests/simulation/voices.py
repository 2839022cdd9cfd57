"""What workers say of their tasks, beside what they do: results and their reasons, progress, limits.

The workers of most seeds are silent. What the others say is drawn from generators of their own, so that
nothing else that a seed decides depends on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

TALKATIVE = (4, 5, 6, 7)
"""Workers of seeds with these remainders modulo 13 talk. No seed that once ended badly is among them."""

TALKERS = 0.75
"""How many of the workers of such a seed talk; the others are like all others."""

SILENT, ODD, RETRY = 0.15, 0.05, 0.06
"""How often one that talks ends a task without a word, with an odd word, or to be tried elsewhere."""

RESULTS = ("passed", "passed", "failed", "error")


def talkative(seed: int) -> bool:
    """Tell whether workers of a seed's grid talk."""
    return seed % 13 in TALKATIVE


@dataclass(frozen=True)
class Saying:
    """What a worker says of a task that it ends.

    Attributes:
        worker, guid: whose it is.
        attempt: which attempt ends, as the dispatch named it.
        fields: what the message has beside the status.
    """

    worker: str
    guid: str
    attempt: int
    fields: dict[str, Any]

    @property
    def result(self) -> str:
        """The result as it has to be kept."""
        said = self.fields.get("result")
        return said if said in RESULTS else "unknown"

    @property
    def kept(self) -> tuple[object, ...]:
        """What has to be kept with the attempt: result, message and details."""
        return self.result, self.fields.get("message"), self.fields.get("details")

    @property
    def retry(self) -> bool:
        """Whether the task is to be tried elsewhere."""
        return bool(self.fields.get("retry"))


class Voice:
    """How a worker talks. ``blames``: its next task ends with the wish to be tried elsewhere."""

    def __init__(self, seed: int, name: str) -> None:
        chance = random.Random(f"{seed} says {name}")
        self.talks = talkative(seed) and chance.random() < TALKERS
        self.blames = False
        self._name = name
        self._chance = chance
        self._count = 0
        self._names, self._numbers, self._limits = (chance.random() < 0.5 for _ in range(3))

    @property
    def limits(self) -> bool:
        """Whether it says that it ends tasks itself that exceed their time limit."""
        return self.talks and self._limits

    def always(self) -> dict[str, Any]:
        """Return what each status has."""
        return {"limits": True} if self.limits else {}

    def about(self, guid: str, attempt: int) -> dict[str, Any]:
        """Return what each status has that is about a task."""
        named = {"task": guid} if self.talks and self._names else {}
        return {**named, "attempt": attempt} if self.talks and self._numbers else named

    def progress(self) -> dict[str, Any]:
        """Return what a heartbeat of one that works has."""
        self._count += self.talks
        return {"progress": f"{self._name} beats {self._count}"} if self.talks else {}

    def end(self, guid: str, attempt: int) -> Saying:
        """Return what is said of a task at its end."""
        return Saying(self._name, guid, attempt, self._verdict(guid))

    def _verdict(self, guid: str) -> dict[str, Any]:
        self._count += 1
        blames, self.blames = self.blames, False
        word = self._chance.random()
        why = {"message": f"{self._name} ends {guid} ({self._count})", "details": {"count": self._count}}
        if blames or (self.talks and word < RETRY):
            return {"result": "error", "retry": True, **why}
        if not self.talks or word < RETRY + SILENT:
            return {}
        result = "green" if word < RETRY + SILENT + ODD else self._chance.choice(RESULTS)
        return {"result": result, **why}
