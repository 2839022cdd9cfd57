"""What the documentation says is what the code does."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tefmanager.config.settings import SETTINGS
from tefmanager.core.model import events
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.values import WorkerStatus
from tefmanager.core.running.reports import HELD, UNHELD, Holds, Word
from tefmanager.ctl.main import cli
from tefmanager.inquiry.questions import PARSERS
from tefmanager.protocol.catalogue import CATALOGUE
from tefmanager.protocol.messages import Invalid, parse
from tests.paths import ROOT
from tests.unit.grid import Grid

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
CELL = re.compile(r"(?<!\\)\|")


def section(title: str) -> str:
    """Return a section of the protocol, of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PROTOCOL, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def table(text: str, *headings: str) -> list[list[str]]:
    """Return the rows below the table head that has these headings."""
    rows: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in CELL.split(line)[1:-1]]
        if inside and not cells:
            break
        if inside and set("".join(cells)) != {"-"}:
            rows.append(cells)
        inside = inside or cells == list(headings)
    assert rows, f"no table {headings}"
    return rows


def words(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


# --- worker states ---


def test_table_of_worker_states() -> None:
    """The table has each cell of the code's, with the same action, once."""
    rows = table(section("Worker states"), "it holds", "it says", "action", "what happens")
    found = [((Holds(row[0]), Word(word)), row[2]) for row in rows for word in words(row[1])]
    table_of_code = {**{(Holds.NOTHING, word): does for word, does in UNHELD.items()}, **HELD}
    assert dict(found) == {key: does.__name__.removeprefix("_") for key, does in table_of_code.items()}
    assert len(found) == len(table_of_code)


def idle() -> Grid:
    """Worker w is free."""
    return Grid().say("w", "idle")


def dispatched() -> Grid:
    """It was sent T, for which there is another worker, too."""
    return idle().submit("T", time_limit=50.0).say("v", "idle")


def unconfirmed() -> Grid:
    """It was sent T, and the broker has not said whether it has the message."""
    return Grid(confirm=False).say("w", "idle").submit("T", time_limit=50.0).say("v", "idle")


def working() -> Grid:
    """It works at T."""
    return dispatched().say("w", "working")


def busy() -> Grid:
    """It is done with T and has not said that it is free."""
    return working().say("w", "task_complete")


def stalled() -> Grid:
    """It let T run out of time."""
    return working().wait(51)


def missing() -> Grid:
    """It went silent while it was free."""
    return idle().wait(91)


def missing_unbegun() -> Grid:
    """It went silent without having begun T, which another one has."""
    return dispatched().wait(31)


def doubtful() -> Grid:
    """It was heard, but has not begun T in time, which another one has now."""
    return dispatched().wait(20).say("w", "idle").wait(11).say("v", "working")


def missing_at_work() -> Grid:
    """It went silent while it worked at T, and T waits."""
    return idle().submit("T").say("w", "working").wait(91)


def given_up() -> Grid:
    """It said that it is free while it was at T, which another one has now."""
    return working().say("w", "idle").wait(2.1).say("v", "idle").say("v", "working")


STATES: dict[str, Callable[[], Grid]] = {
    "[*]": lambda: Grid(confirm=False),
    "idle": idle,
    "dispatched": dispatched,
    "working": working,
    "busy": busy,
    "doubtful": doubtful,
    "stalled": stalled,
    "missing": missing,
}

EVENTS: dict[str, Callable[[Grid], object]] = {
    "ready": lambda grid: grid.say("w", "ready"),
    "idle": lambda grid: grid.say("w", "idle"),
    "working": lambda grid: grid.say("w", "working"),
    "task_complete": lambda grid: grid.say("w", "task_complete"),
}

MORE_EVENTS: dict[str, Callable[[Grid], object]] = {
    "dispatch": lambda grid: grid.submit("T"),
    "returned": lambda grid: grid.turn(events.DispatchFailed(grid.published[0].attempt, "")),
    "release grace": lambda grid: grid.say("w", "idle").wait(2.1),
    "dispatch timeout": lambda grid: grid.wait(20).say("w", "idle").wait(11),
    "dispatch timeout, silent": lambda grid: grid.wait(31),
    "free after the dispatch timeout": lambda grid: grid.wait(31).say("w", "idle").wait(2.1),
    "free again, T given up": lambda grid: grid.say("w", "idle").wait(2.1),
    "missing interval": lambda grid: grid.wait(91),
    "time limit": lambda grid: grid.wait(51),
    "working, its task still waits": EVENTS["working"],
    "idle, a task not begun": EVENTS["idle"],
    "idle, its task still waits": EVENTS["idle"],
}

ONLY_IN = {
    "dispatch": {"idle"},
    "returned": {"dispatched"},
    "release grace": {"working"},
    "dispatch timeout": {"dispatched"},
    "dispatch timeout, silent": {"dispatched"},
    "free after the dispatch timeout": {"doubtful"},
    "free again, T given up": {"doubtful"},
    "missing interval": {"idle", "dispatched", "working", "busy", "doubtful", "stalled"},
    "time limit": {"working"},
    "working, its task still waits": {"missing"},
    "idle, a task not begun": {"missing"},
    "idle, its task still waits": {"missing"},
}
"""States in which an event can come that is more than a word."""

BEFORE: dict[str, Callable[[], Grid]] = {
    "returned": unconfirmed,
    "working, its task still waits": missing_at_work,
    "idle, a task not begun": missing_unbegun,
    "idle, its task still waits": missing_at_work,
    "free again, T given up": given_up,
}
"""How a state must have come about for an event."""


def drawn() -> dict[tuple[str, str], str]:
    """Return where the arrows of the drawing lead, by state and event."""
    found: dict[tuple[str, str], str] = {}
    for start, end, label in re.findall(
        r"^ +(\S+) --> (\S+): (.+)$", section("Worker states"), re.MULTILINE
    ):
        for event in label.split(" or "):
            assert (start, event) not in found, f"{event} leads from {start} to two states"
            found[start, event] = end
    return found


def state_of(grid: Grid) -> str:
    """Return worker w's state, as the drawing names it."""
    worker = grid.core.workers.get("w")
    if worker is None:
        return "[*]"
    unnamed = {WorkerStatus.WORKING: "busy", WorkerStatus.DISPATCHED: "doubtful"}
    status = worker.status
    return status.value if worker.live is not None else unnamed.get(status, status.value)


def cases() -> Iterator[tuple[str, str]]:
    """Go through every state with every event that can come in it."""
    for state in STATES:
        yield from ((state, event) for event in EVENTS)
        yield from ((state, event) for event, states in ONLY_IN.items() if state in states)


def test_drawing_has_no_other_arrows() -> None:
    """States and events in the drawing are ones that are tried."""
    assert set(drawn()) <= set(cases())


@pytest.mark.parametrize(("state", "event"), list(cases()))
def test_drawing_of_worker_states(state: str, event: str) -> None:
    """Every arrow of the drawing is what the core does, and where there is none it stays as it is."""
    grid = BEFORE.get(event, STATES[state])()
    assert state_of(grid) == state
    {**EVENTS, **MORE_EVENTS}[event](grid)
    assert state_of(grid) == drawn().get((state, event), state)


@pytest.mark.parametrize("state", [state for state in STATES if state != "[*]"])
def test_offline_leads_out_of_every_state(state: str) -> None:
    """A worker that leaves is gone, whatever it was."""
    assert state_of(STATES[state]().say("w", "offline")) == "[*]"


def test_states_that_get_workers_shows() -> None:
    """The page names every status a worker may have."""
    row = next(
        row for row in table(section("Messages to the manager"), "key", "value") if "status" in row[0]
    )
    assert set(words(row[1])) == set(WorkerStatus)


def test_ends_of_attempts() -> None:
    """The page names every way an attempt can end."""
    rows = table(section("Rejected messages and dead tasks"), "end", "meaning")
    assert sorted(word for row in rows for word in words(row[0])) == sorted(AttemptEnd)


# --- examples ---


def examples(language: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a language, with their page's name."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(page.name, block) for page in PAGES for block in fence.findall(page.read_text())]


@pytest.mark.parametrize(("page", "example"), examples("json"))
def test_messages_by_example(page: str, example: str) -> None:
    """Every message shown on a page is one that the manager takes."""
    assert not isinstance(parse(example.encode(), 10_000, others=PARSERS), Invalid)


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command of tefctl, and of those below it."""
    own = {name for each in command.params if isinstance(each, click.Option) for name in each.opts}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*(options_of(each) for each in below))


def commands_of(command: click.Command, path: str) -> set[str]:
    """Return the full names of a command's commands, such as ``tefctl dead list``."""
    if not isinstance(command, click.Group):
        return {path}
    below = command.commands.items()
    return {full for name, each in below for full in commands_of(each, f"{path} {name}")}


def test_every_command_of_tefctl_is_described() -> None:
    """The page of tefctl names each of its commands, in full or after an ellipsis, and no other."""
    page = (ROOT / "docs/tefctl.md").read_text()
    commands = commands_of(cli, "tefctl")
    named = {name.replace("…", "tefctl resources") for name in re.findall(r"`((?:tefctl|…) [^`]*)`", page)}
    assert {each for each in commands if not any(name.startswith(each) for name in named)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_pages_name(page: Path) -> None:
    """A setting that is named as an option in running text exists."""
    known = {f"--{name}" for name in SETTINGS} | options_of(cli)
    foreign = {"--logfile", "--syslog", "--logger", "--enable-v2", "--pidfile", "--help", "--reactor"}
    foreign |= {"--user", "--username"}  # of etcdctl
    foreign |= {"--folder", "--only"}  # of script/chaos
    found = set(re.findall(r"`(--[a-z][a-z0-9-]+)", page.read_text()))
    assert found <= known | foreign


# --- alarms and errors ---

OPERATIONS = (ROOT / "docs/operations.md").read_text()


def alerts() -> list[dict[str, Any]]:
    """Return the rules for Prometheus that raise alerts."""
    rules = yaml.safe_load((ROOT / "conf/prometheus/tef-manager.rules.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


def test_every_alert_has_a_paragraph() -> None:
    """The page of operations tells of each alert, in the order of the rules, and of no other."""
    below = OPERATIONS.partition("## Alarms\n")[2].partition("\n## ")[0]
    paragraphs = re.findall(r"^### (\w+)\n\n(\S.+)$", below, re.MULTILINE)
    assert [name for name, _ in paragraphs] == [rule["alert"] for rule in alerts()]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_runbooks_of_alerts(rule: dict[str, Any]) -> None:
    """An alert leads to its own paragraph."""
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{slug(rule['alert'])}"


def test_errors_that_operations_names() -> None:
    """The page of operations names every event of the level error."""
    below = OPERATIONS.partition("## Errors in the log\n")[2]
    errors = {event.name for event in CATALOGUE if event.level == "error"}
    assert {word for word in words(below) if word.isupper()} == errors


# --- links ---


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return plain.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page."""
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}


def relative_links() -> list[tuple[str, str]]:
    """Return (page, target) of each link that leads to a place in this checkout."""
    link = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
    found = [(page, target) for page in PAGES for target in link.findall(page.read_text())]
    return [(str(page.relative_to(ROOT)), target) for page, target in found if "://" not in target]


@pytest.mark.parametrize(("page", "target"), relative_links())
def test_links_lead_somewhere(page: str, target: str) -> None:
    """Files that pages link to exist, and so do the headings in them."""
    name, _, anchor = target.partition("#")
    file = (ROOT / page).parent / name if name else ROOT / page
    assert file.exists()
    if anchor:
        assert anchor in anchors(file)


# --- the front page and the index ---


def test_the_readme_is_a_front_page() -> None:
    """It stays shorter than 150 lines; everything else has a page of its own."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_every_page_is_in_the_index() -> None:
    """The index names each page once, under one of the four kinds."""
    index = (ROOT / "docs/README.md").read_text()
    kinds = re.split(r"^## (.+)$", index, flags=re.MULTILINE)[1:]
    assert kinds[::2] == ["Tutorial", "How-to", "Reference", "Explanation"]
    named = [name for below in kinds[1::2] for name in re.findall(r"^\| \[([\w-]+\.md)\]\(", below, re.M)]
    assert sorted([*named, "README.md"]) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_pictures_are_light() -> None:
    """A picture of the page or of a terminal has at most 150 kB."""
    pictures = list((ROOT / "docs/pictures").glob("*.png"))
    assert {path.stem for path in pictures} == {"demo", "page"}
    assert all(path.stat().st_size <= 150_000 for path in pictures)


def test_badges_are_true() -> None:
    """They say what the package's metadata say."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    needed = metadata["options"]["python_requires"].removeprefix(">=").strip()
    for name, text in (("python", f"python: {needed} or later"), ("licence", "licence: MIT")):
        assert f'aria-label="{text}"' in (ROOT / f"docs/pictures/{name}.svg").read_text()
    assert metadata["metadata"]["license"] == "MIT"
