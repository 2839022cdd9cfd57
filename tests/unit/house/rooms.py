"""The rooms of the house, their floors, and the imports between them: ``python -m tests.unit.house.rooms``.

A *room* is a module or folder directly in ``tefmanager``, or in ``tefmanager/core``. An *arrow* is a pair
of rooms of which one imports the other. A room stands one *floor* above the highest room that it imports.
"""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.paths import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef

FLOORS = (
    ("config", "protocol", "sandbox"),
    ("core", "demo", "logfile"),
    ("interfaces", "support"),
    ("amqp", "etcd", "inquiry", "store"),
    ("ctl", "engine", "status"),
    ("service",),
    ("tap",),
)
"""The rooms of the package, from the ground up. A room imports rooms of lower floors only."""

CORE_FLOORS = (
    ("model",),
    ("books",),
    ("sharing", "waiting"),
    ("running",),
    ("blockers", "grants", "planner", "stops"),
    ("intake", "loading"),
    ("core",),
)
"""The same for the rooms inside the core."""


@dataclass(frozen=True)
class Module:
    """A module: its dotted name, its file and what is in it."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.path.read_text().splitlines())

    def imports(self) -> Iterator[str]:
        """Iterate over the dotted names it imports, at any level; ``from a import b`` gives ``a.b``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                yield from (f"{start}.{alias.name}" for alias in node.names)

    def functions(self) -> Iterator[Function]:
        """Iterate over its functions and methods, including inner ones."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def modules_below(folder: str) -> list[Module]:
    """Return the modules in a folder of the checkout.

    They stay in memory, and are excluded from the garbage collection after each test, which would be slow.
    """
    paths = sorted((ROOT / folder).rglob("*.py"))
    modules = [Module(dotted(path), path, ast.parse(path.read_text())) for path in paths]
    gc.collect()
    gc.freeze()
    return modules


def dotted(path: Path) -> str:
    """Return the dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def package() -> list[Module]:
    """Return the package's modules, the plugin included."""
    return [*modules_below("tefmanager"), *modules_below("twisted_plugin")]


def within(name: str, *places: str) -> bool:
    """Tell whether a dotted name is one of the places, or inside one."""
    return any(name == place or name.startswith(place + ".") for place in places)


def room_of(name: str, house: str = "tefmanager") -> str | None:
    """Return the room that a dotted name is in, or None if it is not in the house."""
    return name.removeprefix(f"{house}.").partition(".")[0] if name.startswith(f"{house}.") else None


@cache
def arrows(house: str = "tefmanager") -> Mapping[str, Mapping[str, list[str]]]:
    """Return which room imports which, and by which imports (``module: name``)."""
    rooms = {room for module in package() if (room := room_of(module.name, house)) is not None}
    found: dict[str, dict[str, list[str]]] = {room: {} for room in sorted(rooms)}
    for module in package():
        room = room_of(module.name, house)
        if room is None:
            continue
        for name in module.imports():
            other = room_of(name, house)
            if other in rooms and other != room:
                found[room].setdefault(other, []).append(f"{module.name}: {name}")
    return found


@cache
def heights(house: str = "tefmanager") -> Mapping[str, int]:
    """Return the floor of each room, from 1. Raises `ValueError` if imports are circular."""
    graph = arrows(house)
    found: dict[str, int] = {}

    def height(room: str, below: tuple[str, ...]) -> int:
        if room in below:
            raise ValueError("a circle: " + " -> ".join((*below, room)))
        if room not in found:
            found[room] = 1 + max((height(other, (*below, room)) for other in graph[room]), default=0)
        return found[room]

    for room in graph:
        height(room, ())
    return found


def _picture(house: str) -> Iterator[str]:
    graph, floors = arrows(house), heights(house)
    count = sum(len(others) for others in graph.values())
    yield f"{house}: {len(graph)} rooms, {count} arrows, {max(floors.values())} floors"
    for floor in range(max(floors.values()), 0, -1):
        for room in (room for room, its in floors.items() if its == floor):
            yield f"  {floor}  {room:<12} {', '.join(sorted(graph[room]))}"


if __name__ == "__main__":
    print("\n".join([*_picture("tefmanager"), "", *_picture("tefmanager.core")]))
