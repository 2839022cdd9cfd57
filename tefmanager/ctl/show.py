"""Formats the manager's answers as tables. Nothing in them can inject markup or control codes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tefmanager.ctl.console import Session
from tefmanager.ctl.tables import Rows, as_json, cell
from tefmanager.protocol.catalogue import plain

HOLDERS = 10
"""How many holders of a resource are shown; ``--json`` has all of them."""

NAMES = 10
"""How many types, suites, priorities or resources are named in one line."""


def console() -> Console:
    """Return the console for tables; wide if it is no terminal, so that nothing is cut in a file."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=200)


def show(session: Session, answer: Any, table: RenderableType) -> None:
    """Print an answer: as JSON if requested, otherwise as a table."""
    if session.json:
        click.echo(as_json(answer))
    else:
        _print(console(), table)


def _print(to: Console, table: RenderableType) -> None:
    """Print a table, in a file without blanks at the ends of lines."""
    if to.is_terminal:
        to.print(table, crop=False)
        return
    with to.capture() as text:
        to.print(table, crop=False)
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))


def facts() -> Table:
    """Return an empty table of names and values, which are never cut off."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        made.add_column(overflow="fold")
    return made


def ago(since: float | None, now: float | None = None) -> str:
    """Return how long ago a unix time is, such as ``3 m 5 s``."""
    return "" if since is None else duration((time.time() if now is None else now) - since)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def clock(at: float | None) -> str:
    """Return a unix time as local date and time; empty for None."""
    return local(at, "%Y-%m-%d %H:%M:%S")


def local(at: object, form: str) -> str:
    """Return what another program calls a unix time in a local format; empty if it is none."""
    try:
        return time.strftime(form, time.localtime(at)) if isinstance(at, int | float) else ""
    except (ValueError, OverflowError, OSError):  # out of the range of this machine's calendar
        return ""


def clocks(*times: float | None) -> list[str]:
    """Return unix times like `clock`, but without the date if it is that of the time before."""
    told, day = [], ""
    for text in map(clock, times):
        told.append(text.removeprefix(day) if day else text)
        day = text[:11] or day
    return told


def _counts(counts: Mapping[str, int], total: int = 0) -> str:
    """Return counts as text, the first ones only; ``total``: how many there are, if these are not all."""
    told = [f"{name or '(none)'} {count}" for name, count in counts.items() if count]
    return _some(told, max(total, len(told))) or "–"


def _some(names: Sequence[str], total: int) -> str:
    left = total - len(names[:NAMES])
    return ", ".join([*names[:NAMES], *([f"and {left} more"] if left else [])])


def status(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_status``."""
    now, waiting = answer["time"], answer["waiting"]
    made = facts()
    since = answer["state_since"]
    known = f"since {ago(since, now)}" if since else f"active since {ago(answer['active_since'], now)}"
    made.add_row(Text("manager"), cell(answer["state"]), cell(known))
    made.add_row("waiting", cell(waiting["total"]), cell(_oldest(waiting, now)))
    made.add_row("", "", cell(f"by type: {_counts(waiting['by_type'], waiting['types'])}"))
    made.add_row("", "", cell(f"by suite: {_counts(waiting['by_suite'], waiting['suites'])}"))
    made.add_row("", "", cell(f"by priority: {_counts(waiting['by_priority'])}"))
    made.add_row("in flight", cell(answer["dispatched"] + answer["working"]), cell(_flight(answer)))
    made.add_row("workers", cell(sum(answer["workers"].values())), cell(_counts(answer["workers"])))
    made.add_row("", "", cell(f"idle by type: {_counts_all(answer['worker_types'])}"))
    etcd = "connected" if answer["etcd_ready"] else "unreachable: tasks with resources wait"
    made.add_row("Etcd", "", cell(etcd))
    for away in answer.get("outages", ()):
        name = " ".join(filter(None, (away["service"], away["about"])))
        made.add_row("missing", cell(name), cell(f"{away['cause']}, for {ago(away['since'], now)}"))
        made.add_row("", "", cell(away["meaning"]))
    if short := answer["short"]:
        made.add_row("short of", cell(len(short)), cell(_some(short, len(short))))
    for held in answer.get("held_back", ()):
        made.add_row("held back", "", cell(f"{held['what']}: {held['reason']}"))
    return made


def _oldest(waiting: Mapping[str, Any], now: float) -> str:
    return f"the oldest for {ago(waiting['oldest'], now)}" if waiting["oldest"] else ""


def _flight(answer: Mapping[str, Any]) -> str:
    dead_lettering = f"{answer['dead_lettering']} dead-lettering"
    return f"{answer['dispatched']} dispatched, {answer['working']} working, {dead_lettering}"


def _counts_all(counts: Mapping[str, int]) -> str:
    told = [f"{name} {count}" for name, count in counts.items()]
    return _some(told, len(told)) or "no workers"


def workers(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_worker_details``."""
    made = Rows("~worker", "~type", "status", "#since", "#heard", "*task")
    for each in answer["workers"]:
        heard, task = duration(each["silent"]), each["task"] or each["booked"]
        made.add(each["name"], each["worker_type"], each["status"], ago(each["since"]), heard, task)
    return _with_total(made, len(answer["workers"]), answer["total"], "workers")


def tasks(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_tasks``."""
    made = Rows("*task", "~type", "~suite", "#prio", "state", "#age", "~worker", "~resources")
    for each in answer["tasks"]:
        names = " ".join(each["resources"])
        mine = (each["guid"], each["task_type"], each["suite"], plain(each["priority"]), each["state"])
        made.add(*mine, ago(each["received"]), each["worker"], names)
    total = answer["total"] if answer["complete"] else f"at least {answer['total']}"
    return _with_total(made, len(answer["tasks"]), total, "tasks")


def task(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_task``."""
    made = Rows("#attempt", "*worker", "dispatched", "started", "ended", "end")
    for each in answer["attempts"]:
        times = clocks(*(each[name] for name in ("dispatched", "started", "ended")))
        made.add(each["number"], each["worker"], *times, each["end"] or "under way")
    about, said = _facts(answer["task"]), _said(answer["attempts"])
    if not answer["attempts"]:
        return about
    return Group(about, Text(), made, *((Text(), said) if said.row_count else ()))


def _said(attempts: Iterable[Mapping[str, Any]]) -> Table:
    """Return what workers said of their attempts, in full: a column could not hold it."""
    made = facts()
    for each in attempts:
        result, message = each.get("result"), each.get("message")
        if message is not None or result not in (None, "unknown"):
            made.add_row(cell(f"attempt {each['number']}"), cell(result), cell(message))
    return made


def _facts(task: Mapping[str, Any]) -> Table:
    made = facts()
    told = {
        "task": task["guid"],
        "type": task["task_type"],
        "suite": task["suite"],
        "priority": plain(task["priority"]),
        "state": task["state"],
        "worker": task["worker"],
        "resources": " ".join(task["resources"]),
        "received": clock(task["received"]),
        "finished": clock(task["finished"]),
        "progress": task.get("progress"),
        "result": task.get("result"),
        "message": task.get("message"),
        "attempts": task["attempts"],
        "avoids": " ".join(task["avoid"]),
        "held back": task.get("held_back"),
    }
    for name, value in told.items():
        if value not in (None, ""):
            made.add_row(name, cell(value))
    return made


def explanation(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``explain_task``."""
    parts: list[RenderableType] = [_facts(answer["task"]), Text()]
    if not answer["reasons"]:
        parts.append(cell(answer["text"]))
    for reason in answer["reasons"]:
        parts.append(cell(f"• {reason['text']}"))
        for holder in reason.get("holders", ()):
            whose = (
                f"task {holder['guid']} at {holder['worker']}"
                if holder["guid"]
                else "a task that is over; it is being released"
            )
            since = f", for {ago(holder['since'])}" if holder["since"] else ""
            parts.append(cell(f"    held by {whose} (attempt {holder['attempt']}){since}"))
        if reason.get("others"):
            parts += [cell(text) for text in _by_others(reason)]
        parts += [
            cell(f"    kept for task {claim['guid']}, which has waited for {ago(claim['since'])}")
            for claim in reason.get("claims", ())
        ]
    if answer["ahead"]:
        least = "" if answer["ahead_complete"] else "at least "
        what = "task of its type goes" if answer["ahead"] == 1 and not least else "tasks of its type go"
        parts.append(cell(f"• {least}{answer['ahead']} {what} before it"))
    return Group(*parts)


def _by_others(reason: Mapping[str, Any]) -> list[str]:
    """Return a line for each reference of another program, with its holder if known."""
    known = reason.get("held_by_others", ())
    lines = [f"    held by {each['client']}, another program, for {ago(each['since'])}" for each in known]
    left = reason["others"] - len(lines)
    if left <= 0:
        return lines
    hint = "tefctl resources leaked shows references without a lock key"
    return [*lines, f"    held by other programs: {left}{' more' if lines else ''}; {hint}"]


def dead(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_dead``."""
    made = Rows("*task", "~type", "~suite", "#attempts", "~last worker", "last end", "#dead for")
    for each in answer["tasks"]:
        mine = (each["guid"], each["task_type"], each["suite"], each["attempts"])
        made.add(*mine, each["worker"], each["end"], ago(each["died"]))
    return _with_total(made, len(answer["tasks"]), answer["total"], "dead tasks")


def dead_messages(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_dead_messages``."""
    made = Rows("*message", "~guid", "what", "#bytes", "~begins")
    for each in answer["messages"]:
        made.add(each["name"], each["guid"], each["what"], each["size"], each["text"])
    return Group(cell("\nother messages in the dead queue:"), made)


def suites(answer: Mapping[str, Any]) -> RenderableType:
    """Show ``get_suites``."""
    made = Rows("*suite", "#waiting", "#dispatched", "#working", "state")
    for each in answer["suites"]:
        numbers = (each["waiting"], each["dispatched"], each["working"])
        made.add(each["suite"], *numbers, "paused" if each["paused"] else "")
    return _with_total(made, len(answer["suites"]), answer["total"], "suites")


def resources(answer: Mapping[str, Any], most: int = HOLDERS) -> RenderableType:
    """Show ``get_resources``, with at most so many holders of each."""
    made = Rows("*resource", "#held", "#limit", "#others", "#lanes", "~held by", "remarks")
    for each in answer["resources"]:
        limit = "none" if each["limit"] == -1 else each["limit"]
        numbers = (each["held"], limit, each["others"], each["waiting"])
        first, *more = _holders(each, most) or [""]
        made.add(each["name"], *numbers, first, "; ".join(_remarks(each)))
        for holder in more:
            made.add("", "", "", "", "", holder, "")
    lines: list[RenderableType] = [
        _with_total(made, len(answer["resources"]), answer["total"], "resources")
    ]
    if not answer["ready"]:
        lines.append(cell("Etcd is unreachable: this is their last known state"))
    if answer["unknown"]:
        lines.append(cell(f"without an entry: {', '.join(answer['unknown'])}"))
    for name, existing in answer.get("resembling", {}).items():
        lines.append(cell(f"{name!r} has no entry: did you mean {existing!r}?"))
    return Group(*lines)


def _holders(each: Mapping[str, Any], most: int) -> list[str]:
    """Return a line for each of the first holders of a resource."""
    guids = [holder["guid"] or "(being released)" for holder in each["holders"]]
    told, left = guids[:most], len(guids) - most
    return [*told[:-1], f"{told[-1]} and {left} more"] if left > 0 else told


def _remarks(each: Mapping[str, Any]) -> Iterable[str]:
    if not each["available"] or each["limit"] == 0:
        yield "closed"
    if each["window"]:
        yield f"in window {each['window']}"
    yield from each["faults"]


def _with_total(made: Rows, shown: int, total: object, what: str) -> RenderableType:
    if str(shown) == str(total):
        return made if shown else cell(f"no {what}")
    return Group(made, cell(f"{shown} of {total} {what}"))
