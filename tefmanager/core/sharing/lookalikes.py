"""Finds resource names that are mistyped so slightly that nobody sees the difference."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from tefmanager.core.model.resources import Resource

REMEMBERED = 1000
"""How many of these names are remembered; the oldest are forgotten."""


class Resembling:
    """Finds names without an entry that equal an existing one except for case, blanks or Unicode forms.

    Such a name limits nothing, and whoever wrote it does not notice.

    Attributes:
        found: the last such names that were looked up, each with the resource that it resembles.
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def changed(self, seen: Mapping[str, Resource | None]) -> None:
        """Take in resources that were added, changed or removed (None)."""
        for name, resource in seen.items():
            if resource is None:
                self._forget(name)
            elif name not in self._known:
                self._known[name] = _folded(name)
                self._names[self._known[name]] = name
                self.found.pop(name, None)

    def read(self, seen: Mapping[str, Resource | None]) -> None:
        """Replace what is known by the result of a full read."""
        for name in self._known.keys() - seen.keys():
            self._forget(name)
        self.changed(seen)

    def _forget(self, name: str) -> None:
        folded = self._known.pop(name, "")
        if self._names.get(folded) == name:
            del self._names[folded]
        for odd in [odd for odd, existing in self.found.items() if existing == name]:
            del self.found[odd]

    def look(self, name: str) -> str | None:
        """Return the existing name that a name without an entry resembles, or None."""
        existing = self._names.get(_folded(name))
        if existing is not None and name not in self.found:
            self.found[name] = existing
            if len(self.found) > REMEMBERED:
                del self.found[next(iter(self.found))]
        return existing


def _folded(name: str) -> str:
    """Return a name without case, blanks, control characters and Unicode forms.

    Redundant slashes and dots are dropped too: to the v2 API ``a//b``, ``/a/b`` and ``./a/b`` are ``a/b``.
    """
    seen = (c for c in unicodedata.normalize("NFKC", name).casefold() if not _unseen(c))
    parts = unicodedata.normalize("NFKC", "".join(seen)).split("/")
    return "/".join(part for part in parts if part not in ("", "."))


_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Characters that are invisible although Unicode does not call them blanks: fillers, selectors, an empty
Braille cell."""


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp") or (
        _BLANK.match(character) is not None
    )
