"""The rules of the house: who may import whom, how long things get, and that everything says what it is."""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.paths import ROOT

LONGEST_MODULE = 400
LONGEST_FUNCTION = 60
MOST_FUNCTIONS = 25
"""Lines that 9 of 10 functions keep under."""
MEDIAN_FUNCTION = 8

PURE = (
    "tefmanager.core",
    "tefmanager.inquiry",
    "tefmanager.protocol.messages",
    "tefmanager.protocol",
    "tefmanager.inquiry.questions",
    "tefmanager.protocol.catalogue",
    "tefmanager.logfile.forms",
    "tefmanager.config.secrets",
    "tefmanager.config.config",
    "tefmanager.config.http_settings",
    "tefmanager.config.libpq",
    "tefmanager.config.reload",
    "tefmanager.config.sources",
    "tefmanager.config.tls_settings",
    "tefmanager.config.settings",
    "tefmanager.config.kinds",
    "tefmanager.config.database_yml",
    "tefmanager.config.endpoints",
    "tefmanager.engine.liveness",
    "tefmanager.config.tls_files",
)
VALUE_LIBRARIES = {"msgspec", "yaml"}
ADAPTERS = ("tefmanager.amqp", "tefmanager.store", "tefmanager.etcd")
SHARED = (
    "tefmanager.interfaces",
    "tefmanager.support.backoff",
    "tefmanager.support.lease",
    "tefmanager.support.tls",
)
"""What adapters and the engine have in common."""
WIRING = ("tefmanager.tap", "tefmanager.service.sandboxed", "tefmanager.demo", "tefmanager.ctl")
"""Who builds adapters, or servers for them."""
OUTSIDE_WORLD = {"asyncio", "logging", "os", "random", "socket", "subprocess", "threading", "time", "uuid"}
"""What the core has no business with: the same inputs give the same outputs."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


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
        """Go through the dotted names it imports, wherever in it; ``from a import b`` gives ``a.b``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                yield from (f"{start}.{alias.name}" for alias in node.names)

    def functions(self) -> Iterator[Function]:
        """Go through its functions and methods, inner ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def modules_below(folder: str) -> list[Module]:
    """Return the modules in a folder of the checkout."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [Module(dotted(path), path, ast.parse(path.read_text())) for path in paths]


def dotted(path: Path) -> str:
    """Return the dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def package() -> list[Module]:
    """Return the package's modules, the plugin included."""
    return [*modules_below("tefmanager"), *modules_below("twisted_plugin")]


@cache
def tests() -> list[Module]:
    """Return the modules of the tests."""
    return modules_below("tests")


def within(name: str, *places: str) -> bool:
    """Tell whether a dotted name is one of the places or in one."""
    return any(name == place or name.startswith(place + ".") for place in places)


def offences(importers: list[Module], *places: str) -> list[str]:
    """Return "importer: imported" for each import of ours from outside the places."""
    return [
        f"{module.name}: {name}"
        for module in importers
        for name in module.imports()
        if within(name, "tefmanager") and not within(name, *places)
    ]


def adapter_of(name: str) -> str | None:
    """Return the adapter that a module belongs to, or None."""
    return next((adapter for adapter in ADAPTERS if within(name, adapter)), None)


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
    assert offences([module for module in package() if within(module.name, *PURE)], *PURE) == []


def test_the_core_knows_no_clock() -> None:
    """The core imports nothing that reads clocks, does I/O or throws dice."""
    core = [
        module
        for module in package()
        if within(module.name, "tefmanager.core", "tefmanager.inquiry", "tefmanager.engine.liveness")
    ]
    assert [
        f"{module.name}: {name}"
        for module in core
        for name in module.imports()
        if name.partition(".")[0] in OUTSIDE_WORLD
    ] == []
    assert [
        f"{module.name}:{node.lineno}"
        for module in core
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
        if isinstance(node.value, ast.Name) and node.value.id in ("datetime", "date")
    ] == []


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_keep_to_themselves(adapter: str) -> None:
    """An adapter imports pure modules, the contracts and itself; of the package, only its version."""
    own = [module for module in package() if within(module.name, adapter)]
    assert own
    found = offences(own, *PURE, *SHARED, adapter)
    assert [each for each in found if not each.endswith(": tefmanager")] == []


def test_only_the_wiring_imports_adapters() -> None:
    """Engine and manager know contracts, and never who keeps them."""
    others = [
        module
        for module in package()
        if adapter_of(module.name) is None and not within(module.name, *WIRING)
    ]
    assert [
        f"{module.name}: {name}"
        for module in others
        for name in module.imports()
        if within(name, *ADAPTERS)
    ] == []


def test_only_sandboxed_and_demo_import_the_sandbox() -> None:
    """Nobody else starts servers."""
    allowed = ("tefmanager.sandbox", "tefmanager.service.sandboxed", "tefmanager.demo")
    assert [
        f"{module.name}: {name}"
        for module in package()
        if not within(module.name, *allowed)
        for name in module.imports()
        if within(name, "tefmanager.sandbox")
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
