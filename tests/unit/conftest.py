"""Fixtures of the pure tests."""

from __future__ import annotations

import pytest

from tefmanager.core.waiting.lanes import Lane


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    """Return a list that records every lane that is looked at."""
    seen: list[Lane] = []
    key = Lane.key

    def counted(lane: Lane) -> object:
        seen.append(lane)
        return key(lane)

    monkeypatch.setattr(Lane, "key", counted)
    return seen
