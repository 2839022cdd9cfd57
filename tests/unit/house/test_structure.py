"""The rules of the house: who may import whom, how long things get, and that everything says what it is."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import pytest

from tests.paths import ROOT
from tests.unit.house.rooms import (
    CORE_FLOORS,
    FLOORS,
    Function,
    Module,
    arrows,
    heights,
    modules_below,
    package,
    room_of,
    within,
)

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
MOST_FUNCTIONS = 25
"""Lines that 9 of 10 functions keep under."""
MEDIAN_FUNCTION = 8

PURE = (
    "tefmanager.core",
    "tefmanager.protocol",
    *(
        f"tefmanager.config.{path.stem}"
        for path in sorted((ROOT / "tefmanager/config").glob("*.py"))
        if path.stem != "options"  # it reads the command line as Twisted does
    ),
    "tefmanager.support.outages",
    "tefmanager.logfile.forms",
    "tefmanager.engine.liveness",
    *(
        f"tefmanager.inquiry.{name}"
        for name in (
            "answers",
            "explain",
            "questions",
            "resource_answers",
            "status_answers",
            "task_answers",
            "worker_answers",
        )
    ),
)
VALUE_LIBRARIES = {"msgspec", "yaml"}
OUTSIDE_WORLD = {"asyncio", "logging", "os", "random", "socket", "subprocess", "threading", "time", "uuid"}
"""What the core has no business with: the same inputs give the same outputs."""
WITHOUT_A_ROOM = {"house", "bench"}
"""Folders of tests that look at the whole checkout, or at the benchmarks."""


@cache
def tests() -> list[Module]:
    """Return the modules of the tests."""
    return modules_below("tests")


# --- rooms and floors ---


@pytest.mark.parametrize(
    ("house", "floors"), [("tefmanager", FLOORS), ("tefmanager.core", CORE_FLOORS)], ids=["package", "core"]
)
def test_every_room_has_its_floor(house: str, floors: tuple[tuple[str, ...], ...]) -> None:
    """A module in no known room, such as a loose one beside the folders, is in the wrong place."""
    assert sorted(arrows(house)) == sorted(room for floor in floors for room in floor)


@pytest.mark.parametrize(
    ("house", "floors"), [("tefmanager", FLOORS), ("tefmanager.core", CORE_FLOORS)], ids=["package", "core"]
)
def test_arrows_point_downwards(house: str, floors: tuple[tuple[str, ...], ...]) -> None:
    """A room imports rooms of lower floors, and none of its own floor or above."""
    level = {room: floor for floor, rooms in enumerate(floors) for room in rooms}
    assert [
        each
        for room, others in arrows(house).items()
        for other, imports in others.items()
        if level[other] >= level[room]
        for each in imports
    ] == []


def test_no_floor_is_higher_than_it_has_to_be() -> None:
    """The floors are those that the imports make, so that nobody keeps a floor that has become needless."""
    assert max(heights().values()) == len(FLOORS)


def subject(module: Module) -> str:
    """Return what a module is about: the main module of a room is about the room."""
    room, _, name = module.name.rpartition(".")
    return room if room.rpartition(".")[2] == name else module.name


def test_one_name_for_one_module() -> None:
    """Modules or rooms of one name are about one thing; a contract has the name of what keeps it."""
    named = defaultdict(set)
    for module in package():
        if not within(module.name, "tefmanager.interfaces") and module.path.stem != "__main__":
            named[module.name.rpartition(".")[2]].add(subject(module))
    assert {name: where for name, where in named.items() if len(where) > 1} == {}


def test_no_module_imports_itself_through_others() -> None:
    """Modules of a room import each other in one direction, also where they only need names of types."""
    names = {module.name for module in package()}
    left = {
        module.name: {
            name if name in names else name.rpartition(".")[0]
            for name in module.imports()
            if module.path.name != "__init__.py"
        }
        & names - {module.name}
        for module in package()
    }
    while done := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in done}
    assert left == {}


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_tests_lie_in_the_rooms_they_test(kind: str) -> None:
    """Whoever knows a room finds its tests in the folder of the same name."""
    rooms = {room for floor in FLOORS for room in floor} | WITHOUT_A_ROOM
    folders = {
        module.path.parent
        for module in modules_below(f"tests/{kind}")
        if module.path.name.startswith("test_")
    }
    assert {folder.relative_to(ROOT / "tests" / kind).as_posix() for folder in folders} <= rooms


def test_only_the_wiring_imports_adapters() -> None:
    """Engine and manager know contracts, and never who keeps them; the command line has its own way in."""
    assert {room for room, others in arrows().items() if {"amqp", "etcd", "store"} & others.keys()} == {
        "ctl",
        "tap",
    }


# --- who imports whom ---


def test_imports_are_absolute() -> None:
    """A dotted name says where a module is, wherever it is read."""
    assert [
        f"{module.name}: {name}" for module in package() for name in module.imports() if name[0] == "."
    ] == []


def test_pure_modules_import_nothing_of_the_outside() -> None:
    """Pure modules know the standard library and libraries of values, and no Twisted."""
    known = set(sys.stdlib_module_names) | VALUE_LIBRARIES | {"tefmanager"}
    assert [
        f"{module.name}: {name}"
        for module in package()
        if within(module.name, *PURE)
        for name in module.imports()
        if name.partition(".")[0] not in known
    ] == []


def test_pure_modules_import_each_other_only() -> None:
    """Of ours, pure modules import pure ones."""
    assert [
        f"{module.name}: {name}"
        for module in package()
        if within(module.name, *PURE)
        for name in module.imports()
        if within(name, "tefmanager") and not within(name, *PURE)
    ] == []


def test_the_core_knows_no_clock() -> None:
    """The core, and what is told of it, reads no clocks, does no I/O and throws no dice."""
    timeless = [
        module
        for module in package()
        if within(module.name, *PURE) and room_of(module.name) in ("core", "inquiry", "engine", "support")
    ]
    assert [
        f"{module.name}: {name}"
        for module in timeless
        for name in module.imports()
        if name.partition(".")[0] in OUTSIDE_WORLD
    ] == []
    assert [
        f"{module.name}:{node.lineno}"
        for module in timeless
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
        if isinstance(node.value, ast.Name) and node.value.id in ("datetime", "date")
    ] == []


# --- how long things get ---


def body_lines(function: Function) -> int:
    """Count a function's lines from ``def`` to its end, its docstring left out."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - docstring_lines(function)


def docstring_lines(function: Function) -> int:
    """Count the lines of a function's docstring."""
    if ast.get_docstring(function) is None:
        return 0
    first = function.body[0]
    assert first.end_lineno is not None
    return first.end_lineno - first.lineno + 1


@cache
def lengths() -> list[tuple[int, str]]:
    """Return lengths and places of all functions of the package, the longest first."""
    found = [
        (body_lines(function), f"{module.name}:{function.lineno} {function.name}")
        for module in package()
        for function in module.functions()
    ]
    return sorted(found, reverse=True)


def test_modules_are_short() -> None:
    """A module of the package can be read in one sitting."""
    assert {module.name: module.lines for module in package() if module.lines > LONGEST_MODULE} == {}


def test_no_function_is_long() -> None:
    """Every function of the package fits on a screen."""
    assert [found for found in lengths() if found[0] > LONGEST_FUNCTION] == []


def test_most_functions_are_short() -> None:
    """Half of the functions are at a glance, and 9 of 10 at most two glances."""
    sizes = [size for size, _ in lengths()]
    assert statistics.median(sizes) <= MEDIAN_FUNCTION
    longer = [found for found in lengths() if found[0] >= MOST_FUNCTIONS]
    assert len(longer) <= len(sizes) / 10, longer


# --- what things say of themselves ---


def public_names(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.AST]]:
    """Go through public classes, functions and methods, with their dotted names."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            name = f"{prefix}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from public_names(node, name)


def is_accessory(node: ast.AST) -> bool:
    """Tell whether a method only completes a property whose getter says what it is."""
    decorators = getattr(node, "decorator_list", [])
    return any(
        isinstance(each, ast.Attribute) and each.attr in ("setter", "deleter") for each in decorators
    )


def test_every_public_name_has_a_docstring() -> None:
    """Modules, classes, functions and methods that others use say what they are."""
    silent = [module.name for module in [*package(), *tests()] if not ast.get_docstring(module.tree)]
    for module in package():
        for name, node in public_names(module.tree, module.name):
            assert isinstance(node, Function | ast.ClassDef)
            if not ast.get_docstring(node) and not is_accessory(node):
                silent.append(name)
    assert silent == []


def fault_of(test: Function) -> str | None:
    """Return what is wrong with a test's docstring, or None."""
    text = ast.get_docstring(test)
    if text is None:
        return "says nothing"
    if not text.endswith((".", "?", "!")):
        return "does not end as a sentence"
    return "is more than one sentence" if re.search(r"[.?!]\s+[A-Z]", text) else None


def test_every_test_says_what_it_shows_in_a_sentence() -> None:
    """A failing test is understood before its code is read."""
    assert [
        f"{module.name}:{test.lineno} {test.name} {fault}"
        for module in tests()
        for test in module.functions()
        if test.name.startswith("test_") and (fault := fault_of(test))
    ] == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def test(): pass", "says nothing"),
        ("def test(): 'No end'", "does not end as a sentence"),
        ("def test(): 'One. Two.'", "is more than one sentence"),
        ("def test(): 'One, e.g. this one.'", None),
    ],
)
def test_what_is_wrong_with_a_sentence(source: str, fault: str | None) -> None:
    """The check of sentences finds each kind of fault."""
    function = ast.parse(source).body[0]
    assert isinstance(function, Function)
    assert fault_of(function) == fault


def test_docstrings_do_not_count() -> None:
    """A function's length is that of its code."""
    function = ast.parse('def f(\n    a,\n):\n    """One.\n\n    More.\n    """\n    return a\n').body[0]
    assert isinstance(function, Function)
    assert body_lines(function) == 4
