"""What a worker has said of an attempt: each of its words makes the next value of it."""

from __future__ import annotations

import pytest

from tefmanager.core.model.said import UNHEARD, Said
from tefmanager.core.model.values import Doubt


def test_working_refutes_what_was_doubted() -> None:
    """Nothing is in doubt after it, and the worker is not quiet."""
    doubted = UNHEARD.done_again(5.0)
    assert doubted == Said(quiet=5.0, doubt=Doubt.DONE)
    assert doubted.working(first_hand=False) == Said(beats=True)


def test_an_end_told_again() -> None:
    """It makes the worker quiet, unless *working* was heard first-hand: then only a new word decides."""
    assert UNHEARD.begun().done_again(5.0) == Said(first_hand=True, doubt=Doubt.STALE)


def test_a_goodbye_told_again() -> None:
    """The worker may have left; an end that is believed soon stays so."""
    assert UNHEARD.begun().left_again() == Said(first_hand=True, doubt=Doubt.LEFT)
    assert UNHEARD.done_again(5.0).left_again() == Said(quiet=5.0, doubt=Doubt.DONE)


def test_first_hand_stays() -> None:
    """What was heard first-hand once is not forgotten when *working* is told again."""
    assert UNHEARD.begun().working(first_hand=False) == Said(first_hand=True, beats=True)


def test_one_that_came_back_is_heard_anew() -> None:
    """Its *working* of before counts no longer as heard first-hand, nor what made it quiet."""
    assert UNHEARD.begun().free(5.0).came_back() == UNHEARD


def test_resumed_counts_from_then() -> None:
    """Only what said that it is free has a time that begins anew."""
    assert UNHEARD.free(5.0).resumed(9.0) == Said(quiet=9.0)
    assert UNHEARD.resumed(9.0) is UNHEARD


@pytest.mark.parametrize(
    ("doubt", "said"),
    [
        (None, UNHEARD),
        (Doubt.DONE, Said(quiet=7.0, doubt=Doubt.DONE)),
        (Doubt.STALE, Said(first_hand=True, doubt=Doubt.STALE)),
        (Doubt.LEFT, Said(doubt=Doubt.LEFT)),
    ],
)
def test_what_a_row_tells(doubt: Doubt | None, said: Said) -> None:
    """A restart goes on with the doubt that the row says."""
    assert Said.recorded(doubt, None, 7.0) == said
