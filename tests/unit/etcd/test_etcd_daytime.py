"""Times of day as the programs of the field write them."""

from __future__ import annotations

import pytest

from tefmanager.etcd.daytime import minute_of


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        *[("0:00", 0), ("8:5", 485), ("23:59", 1439), ("24:00", 1440), (" 9:00\n", 540)],
        *[
            ("08:00:00", 480),
            ("23:59:30", 1439.5),
            ("24:00:00", 1440),
            ("8:00:00.123", 480),
            ("8:00:00,5", 480),
        ],
        *[
            ("9:00 AM", 540),
            ("9:00am", 540),
            ("9:00 p.m.", 1260),
            ("09:00:30 PM", 1260.5),
            ("12:30 AM", 30),
        ],
        *[("9am", 540), ("9 PM", 1260), ("12am", 0), ("12pm", 720), ("12 noon", None), ("0pm", 720)],
        *[("8h", 480), ("8h30", 510), ("8 h 30 m", 510), ("8 : 30", 510)],
        *[("", None), ("9", None), ("0900", None), ("13:00 PM", None), ("25:00", None), ("24:00:01", None)],
        *[("9:60", None), ("9:00:60", None), ("-1:00", None), ("9:00 xm", None), ("morning", None)],
        *[
            ("08:00 UTC", None),
            ("2026-01-01 08:00", None),
            ("\u0661:00", None),
            ("9:00" + " " * 99 + "am", None),
        ],
    ],
)
def test_times(text: str, minute: float | None) -> None:
    """What Ruby's Time.parse reads as a time of day is one here, and nothing else."""
    assert minute_of(text) == minute
