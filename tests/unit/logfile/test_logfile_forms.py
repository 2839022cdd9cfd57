"""What the lines of the log look like."""

from __future__ import annotations

import json
import os
import unicodedata
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.config.kinds import LogFormat
from tefmanager.logfile.forms import LONGEST_TEXT, Form, JournalForm, JsonForm, Stamps, TextForm, shortened
from tefmanager.logfile.wiring import form_for, is_journal
from tefmanager.protocol.catalogue import (
    CATALOGUE,
    COMPLETION_IGNORED,
    DISPATCH,
    LONGEST_FIELD,
    TASK_ACCEPTED,
    TASK_COMPLETED,
    LoggedEvent,
    escape,
    plain,
)

ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=30)
"""Lone surrogates and control characters included."""

FORMS = (TextForm(), JsonForm(), JournalForm(TextForm(bare=True)), JournalForm(JsonForm()))

BREAKS = ("Cc", "Cs", "Zl", "Zp")


def is_one_line(text: str) -> bool:
    """Tell whether no program can take a text for more than one line."""
    return not any(unicodedata.category(one) in BREAKS for one in text)


# --- times ---


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_a_time_is_written_to_the_millisecond(first: float, second: float) -> None:
    """Whatever was written before, it reads back as the same moment, with offset, cut to milliseconds."""
    stamps = Stamps()
    for time in (first, second, second):
        text = stamps.stamp(time)
        found = datetime.fromisoformat(text)
        assert found.tzinfo is not None
        assert found.isoformat(timespec="milliseconds") == text
        assert 0 <= time - found.timestamp() < 0.0011


# --- an event ---


@given(st.tuples(ANYTHING | st.integers(), ANYTHING, ANYTHING))
def test_looking_at_all_fields_at_once_changes_nothing(values: tuple[object, ...]) -> None:
    """A line's text is its name and each field escaped by itself."""
    line = LoggedEvent(DISPATCH, values)
    assert line.text == "|".join(["DISPATCH", *map(escape, values)])


@pytest.mark.parametrize("character", ["|", "\\", "\n", "\x7f", "\x85", "\u2028", "\u202e", "\ud800"])
def test_what_must_be_escaped(character: str) -> None:
    """A field with one harmful character is not taken for harmless."""
    text = DISPATCH("a", f"b{character}c", "d").text
    assert f"b{character}c" not in text
    assert text == f"DISPATCH|a|{escape(f'b{character}c')}|d"


def test_a_long_field_is_cut_though_it_is_harmless() -> None:
    """Its line says how long it was."""
    line = DISPATCH("a", "b" * (LONGEST_FIELD + 1), "c")
    assert line.text == f"DISPATCH|a|{'b' * LONGEST_FIELD}… ({LONGEST_FIELD + 1} characters)|c"


def test_text_of_an_event() -> None:
    """Time, level, and the text that is an interface."""
    line = TextForm().line(1795479544.1237, "info", DISPATCH("echo", "task_1", "w"))
    stamp, rest = line.split(" ", 1)
    assert datetime.fromisoformat(stamp).timestamp() == 1795479544.123
    assert rest == "info DISPATCH|echo|task_1|w"


def test_json_of_an_event() -> None:
    """The same, by name; numbers stay numbers."""
    line = TASK_COMPLETED("echo", 'a"b', "w", 7, "failed", 1.25, "told, not logged")
    found = json.loads(JsonForm().line(1795479544.0, "info", line))
    assert datetime.fromisoformat(found.pop("time")).timestamp() == 1795479544.0
    named = {"task_type": "echo", "guid": 'a"b', "worker": "w", "attempt": 7}
    ended = {"result": "failed", "seconds": 1.25}
    assert found == {"level": "info", "event": "TASK_COMPLETED", **named, **ended}


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("-2.5", -2.5), ("1e+300", 1e300)])
def test_a_priority_is_a_number(text: str, number: float) -> None:
    """It is one in JSON, as others are."""
    line = JsonForm().line(1.0, "info", TASK_ACCEPTED("echo", "a", text, ""))
    assert f'"priority":{json.dumps(number)},' in line


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_told_apart(number: float) -> None:
    """Each has a text of its own, that reads back as the same number, and a whole one has no point."""
    assert float(plain(number)) == number
    assert not plain(number).endswith(".0")


def test_names_of_fields_are_free() -> None:
    """No field of an event has the name of something that each object has."""
    assert not [event for event in CATALOGUE if {"time", "level", "event"} & set(event.fields)]
    assert not [event for event in CATALOGUE if len(set(event.fields)) < len(event.fields)]


@given(st.tuples(ANYTHING, ANYTHING, ANYTHING), st.sampled_from(FORMS))
def test_an_event_is_one_line(values: tuple[object, ...], form: Form) -> None:
    """Whatever is in its fields; and what JSON holds is all of it."""
    line = form.line(1.0, "info", COMPLETION_IGNORED(*values))
    assert is_one_line(line)
    if isinstance(form, JsonForm):
        found = json.loads(line)
        assert tuple(found[name] for name in COMPLETION_IGNORED.fields) == values


# --- all else ---


@given(ANYTHING, ANYTHING, st.sampled_from(FORMS))
def test_any_other_text_is_one_line(origin: str, text: str, form: Form) -> None:
    """A traceback, or whatever a library says."""
    assert is_one_line(form.other(1.0, "warn", origin, text))


def test_another_text_is_no_event() -> None:
    """What a library says begins with its origin, so it can't pass for an event."""
    line = TextForm().other(1.0, "info", "lib", "DISPATCH|a|1\nDISPATCH|a|2")
    assert line.endswith(r" info [lib] DISPATCH\x7ca\x7c1\nDISPATCH\x7ca\x7c2")


def test_a_long_text_keeps_both_ends() -> None:
    """A traceback tells at its beginning where, and at its end what happened."""
    text = "begin" + "x" * LONGEST_TEXT + "end"
    short = shortened(text)
    assert short.startswith("beginx")
    assert short.endswith("xend")
    assert " … (8 characters) … " in short


def test_the_longest_text_is_not_split_by_journald() -> None:
    """It takes lines of up to 48 KiB, and splits longer ones."""
    line = JournalForm(TextForm(bare=True)).other(1.0, "warn", "lib" * 20, "\u202e" * LONGEST_TEXT * 2)
    assert len(line.encode()) < 48 * 1024


# --- the journal ---


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warn", 4), ("error", 3), ("critical", 2)]
)
def test_priorities(level: str, priority: int) -> None:
    """To systemd a line says its priority, and neither time nor level, which the journal has itself."""
    form = form_for(LogFormat.TEXT, journal=True)
    assert form.line(1.0, level, DISPATCH("a", "b", "c")) == f"<{priority}>DISPATCH|a|b|c"
    assert form.other(1.0, level, "lib", "x") == f"<{priority}>[lib] x"
    as_json = form_for(LogFormat.JSON, journal=True).other(1.0, level, "lib", "x")
    assert as_json.startswith(f"<{priority}>{{")


def test_how_the_journal_is_known() -> None:
    """By the device and inode that systemd put into the environment, and by nothing else."""
    read, write = os.pipe()
    try:
        found = os.fstat(write)
        assert is_journal(write, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not is_journal(write, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not is_journal(write, {})
    finally:
        os.close(read)
        os.close(write)
