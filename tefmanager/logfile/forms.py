"""The formats of log lines."""

from __future__ import annotations

import json
import math
from datetime import datetime

from tefmanager.protocol.catalogue import LoggedEvent, cut, one_line

LONGEST_TEXT = 8000
"""How many characters are logged of a text that is no event, such as a traceback. Even if each of them is
escaped, the line is shorter than journald's limit (48 KiB)."""

_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""The levels' numbers in syslog and systemd."""


class Stamps:
    """Formats local times in ISO 8601 with milliseconds and offset; most of it changes once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._head = self._tail = ""
        self._time = math.nan
        self._stamp = ""

    def stamp(self, time: float) -> str:
        """Return a unix time for people."""
        if time != self._time:
            self._time = time
            self._stamp = self._written(time)
        return self._stamp

    def _written(self, time: float) -> str:
        second = math.floor(time)
        if second != self._second:
            self._second = second
            text = datetime.fromtimestamp(second).astimezone().isoformat()
            self._head, self._tail = text[:19], text[19:]
        return f"{self._head}.{int((time - second) * 1000):03d}{self._tail}"


class TextForm:
    """Time, level, text. A text that is no event begins with its origin in brackets.

    Args:
        bare: leave out time and level, because another program writes them.
    """

    def __init__(self, *, bare: bool = False) -> None:
        self._stamps = Stamps()
        self._bare = bare

    def line(self, time: float, level: str, line: LoggedEvent) -> str:
        """Return an event of the catalogue as one line."""
        return line.text if self._bare else f"{self._stamps.stamp(time)} {level} {line.text}"

    def other(self, time: float, level: str, origin: str, text: str) -> str:
        """Return any other text as one line."""
        start = "" if self._bare else f"{self._stamps.stamp(time)} {level} "
        return f"{start}[{one_line(origin)}] {one_line(shortened(text))}"


class JsonForm:
    """One JSON object per line: time, level, event and its fields by name; or time, level, origin and text.

    The output is ASCII, so that every program sees it as one line, whatever a field contains.
    """

    def __init__(self) -> None:
        self._stamps = Stamps()
        self._encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

    def line(self, time: float, level: str, line: LoggedEvent) -> str:
        """Return an event of the catalogue as one line."""
        found: dict[str, object] = {
            "time": self._stamps.stamp(time),
            "level": level,
            "event": line.type.name,
        }
        for name, value in zip(line.type.fields, line.values, strict=True):
            found[name] = _as_json(name, value)
        return self._encoded(found)

    def other(self, time: float, level: str, origin: str, text: str) -> str:
        """Return any other text as one line."""
        stamp = self._stamps.stamp(time)
        return self._encoded({"time": stamp, "level": level, "origin": origin, "text": shortened(text)})

    def _encoded(self, found: dict[str, object]) -> str:
        return self._encode(found).replace("\x7f", r"\u007f")


_EXACT = 2.0**53
"""Below this, a whole float is exact."""


def _as_json(name: str, value: object) -> object:
    """Return a field as a JSON value; numbers stay numbers, also a priority, which is already text."""
    if isinstance(value, int | float):
        return value
    if name != "priority":
        return cut(str(value))
    number = float(str(value))
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


class JournalForm:
    """Another form's lines for systemd's journal, each with its priority in front."""

    def __init__(self, inner: TextForm | JsonForm) -> None:
        self._inner = inner

    def line(self, time: float, level: str, line: LoggedEvent) -> str:
        """Return an event of the catalogue as one line."""
        return f"<{_PRIORITIES[level]}>{self._inner.line(time, level, line)}"

    def other(self, time: float, level: str, origin: str, text: str) -> str:
        """Return any other text as one line."""
        return f"<{_PRIORITIES[level]}>{self._inner.other(time, level, origin, text)}"


Form = TextForm | JsonForm | JournalForm


def shortened(text: str) -> str:
    """Return a text, or the beginning and end of a long one: a traceback says at its end what happened."""
    left_out = len(text) - LONGEST_TEXT
    if left_out <= 0:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]} … ({left_out} characters) … {text[-half:]}"
