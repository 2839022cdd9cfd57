"""Pure: parses times of day as programs write them into a resource's windows."""

from __future__ import annotations

import re

LONGEST = 32
"""The most characters of a time of day."""

_COLONS = re.compile(r"([0-9]{1,2}) ?: ?([0-9]{1,2})(?: ?: ?([0-9]{1,2})(?:[.,][0-9]*)?)? ?([ap]\.?m\.?)?")
_HOURS = re.compile(r"([0-9]{1,2}) ?(?:h(?: ?([0-9]{1,2}) ?m?)?()|()()([ap]\.?m\.?))")
_DAY = 24 * 60


def minute_of(text: str) -> float | None:
    """Return the minute of the day (``24:00`` is 1440), or None if the text is no time of day.

    Accepts ``H:M`` and what Ruby's ``Time.parse`` accepts as a time of day: ``08:00:00``, ``9:00 AM``,
    ``9am``, ``8h30``. Seconds become fractions of a minute; fractions of a second are ignored. Dates and
    zones are not accepted, because a window has none.
    """
    text = text.strip().lower()
    if len(text) > LONGEST:
        return None
    if found := _COLONS.fullmatch(text):
        hour, minute, second, half = found.groups()
    elif found := _HOURS.fullmatch(text):
        hour, minute, second, half = found[1], found[2], None, found[6]
    else:
        return None
    return _minute(int(hour), int(minute or 0), int(second or 0), half)


def _minute(hour: int, minute: int, second: int, half: str | None) -> float | None:
    if half is not None:
        if hour > 12:
            return None
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    if minute > 59 or second > 59 or (hour, minute, second) > (24, 0, 0):
        return None
    return hour * 60 + minute + second / 60
