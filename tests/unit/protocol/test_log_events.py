"""The catalogue of events is what the code logs, and what ``docs/log-events.md`` says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import CATALOGUE, LONGEST_FIELD, MESSAGE_INVALID_JSON, quoting, readable
from tests.paths import ROOT
from tests.unit.house.test_docs import table, words

PAGE = (ROOT / "docs/log-events.md").read_text()
LEVELS = ("debug", "info", "warn", "error", "critical")


def rows() -> list[list[str]]:
    """Return the page's table of events."""
    return table(PAGE, "text", "level", "when", "what to do")


def test_the_page_has_the_catalogue() -> None:
    """Every event with its fields and its level, in the same order."""
    found = [(words(row[0])[0].replace("\\|", "|"), row[1]) for row in rows()]
    assert found == [("|".join((event.name, *event.fields)), event.level) for event in CATALOGUE]


def test_the_page_says_when_and_what_to_do() -> None:
    """Of every event; and of more than information also that nothing is to be done, if so."""
    assert [row for row in rows() if len(row) != 4 or not all(row)] == []
    assert [row[0] for row in rows() if row[1] != "info" and row[3] == "–"] == []


def test_the_page_explains_every_field() -> None:
    """And none that there is not."""
    explained = [word for row in table(PAGE, "field", "meaning") for word in words(row[0])]
    assert set(explained) == {field for event in CATALOGUE for field in event.fields}
    assert len(explained) == len(set(explained))


def test_names_are_unique() -> None:
    """Also the beginnings of lines: no event's line can be taken for another event's."""
    assert len({event.name for event in CATALOGUE}) == len(CATALOGUE)
    starts = [f"{event.name}|" for event in CATALOGUE]
    assert [(a, b) for a in starts for b in starts if a != b and a.startswith(b)] == []
    assert {event.level for event in CATALOGUE} <= set(LEVELS)


# --- what the code logs ---


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Go through the modules of the package."""
    for path in sorted((ROOT / "tefmanager").rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def made_elsewhere(name: str, tree: ast.Module) -> Iterator[str]:
    """Go through the events, or lines of them, that a module makes by itself."""
    taken = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tefmanager.protocol.catalogue"
        for alias in node.names
        if alias.name in ("EventType", "LoggedEvent")
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in taken or called in ("catalogue.EventType", "catalogue.LoggedEvent"):
            yield f"{name}:{node.lineno} {called}"


def texts_like_events(name: str, tree: ast.Module) -> Iterator[str]:
    """Go through the texts that a module logs past the catalogue and that look like an event."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in (*LEVELS, "failure", "emit"):
            for argument in node.args:
                text = argument.value if isinstance(argument, ast.Constant) else None
                if isinstance(text, str) and re.match(r"[A-Z][A-Z_]{3,}(\||$)", text):
                    yield f"{name}:{node.lineno} {text}"


def test_only_the_catalogue_makes_events() -> None:
    """Code that logs an event takes one of the catalogue."""
    own = "tefmanager/protocol/catalogue.py"
    assert [each for name, tree in trees() if name != own for each in made_elsewhere(name, tree)] == []
    assert [each for name, tree in trees() for each in texts_like_events(name, tree)] == []


def test_all_events_of_the_module_are_in_the_catalogue() -> None:
    """None is made inside a function or a class, where it would be left out."""
    (tree,) = [tree for name, tree in trees() if name == "tefmanager/protocol/catalogue.py"]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert len([call for call in calls if ast.unparse(call.func) == "EventType"]) == len(CATALOGUE)


@pytest.mark.parametrize(
    "source",
    [
        "from tefmanager.protocol.catalogue import EventType\nNEW = EventType('NEW')",
        "from tefmanager.protocol.catalogue import LoggedEvent as L, EventType as E\nE('NEW')",
        "from tefmanager.protocol import catalogue\ncatalogue.EventType('NEW')",
        "from tefmanager.protocol import catalogue\ncatalogue.LoggedEvent(catalogue.DISPATCH, ())",
        "log.warn('TASK_EATEN|{guid}', guid=1)",
        "self._log.failure('TASK_EATEN')",
    ],
)
def test_an_event_past_the_catalogue_is_found(source: str) -> None:
    """However it is made."""
    tree = ast.parse(source)
    assert [*made_elsewhere("x", tree), *texts_like_events("x", tree)]


def test_every_event_is_logged_somewhere() -> None:
    """The catalogue has nothing that can't come."""
    names = {name for name, value in vars(catalogue).items() if value in CATALOGUE}
    used = {
        node.attr
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("catalogue")
    }
    assert names - used == set()


def test_what_is_cut_twice_tells_the_size_of_the_whole() -> None:
    """An excerpt of a long message says how long that was, and not how long the part that was logged."""
    line = MESSAGE_INVALID_JSON("why", readable(b"x" * 100_000))
    assert quoting(line, 20).text == f"MESSAGE_ERROR|INVALID_JSON|why|{'x' * 20}… (100000 bytes)"
    assert quoting(line, LONGEST_FIELD).text.endswith("x… (100000 bytes)")
    short = MESSAGE_INVALID_JSON("why", readable(b"x" * 100))
    assert quoting(short, 20).text.endswith("x… (100 characters)")
