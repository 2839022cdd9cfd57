"""What is released says of itself what is so, and the checks that go with it are the same everywhere."""

from __future__ import annotations

import configparser
import re

import pytest

from tests.paths import ROOT

PYTHONS = ("3.11", "3.12", "3.13")


def metadata() -> configparser.ConfigParser:
    """Return setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    """Return the lines of a value that has several, without comments."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def versions(requirements: list[str], sign: str) -> dict[str, str]:
    """Return the version that follows a sign such as ``>=``, by requirement; others are left out."""
    return dict(line.split(f" {sign} ", 1) for line in requirements if f" {sign} " in line)


def lowest() -> dict[str, str]:
    """Return the versions that script/test-lowest installs, by requirement."""
    return versions(lines((ROOT / "tests/lowest.txt").read_text()), "==")


def test_every_library_has_its_lowest_version_tested() -> None:
    """The bounds in setup.cfg are the versions that script/test-lowest installs."""
    required = lines(metadata()["options"]["install_requires"])
    bounds = versions(required, ">=")
    assert len(bounds) == len(required)
    assert {name: lowest().get(name) for name in bounds} == bounds


def test_what_the_tests_need_has_its_lowest_version_tested() -> None:
    """What else is installed for these tests is in the extra, with the same bound."""
    extra = versions(lines(metadata()["options.extras_require"]["test"]), ">=")
    needed = versions(lines(metadata()["options"]["install_requires"]), ">=")
    assert lowest().items() <= (needed | extra).items()
    assert {name: needed[name] for name in extra.keys() & needed} == {
        name: extra[name] for name in extra.keys() & needed
    }


def test_the_debian_package_keeps_the_bounds() -> None:
    """No library that is pinned for it is older than the lowest one."""
    text = (ROOT / "debian/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", text, re.MULTILINE))
    bounds = versions(lines(metadata()["options"]["install_requires"]), ">=")
    for name, bound in bounds.items():
        assert numbers(pinned[name.partition("[")[0].replace(".", "-").lower()]) >= numbers(bound), name


def numbers(version: str) -> list[int]:
    """Return what versions are compared by."""
    return [int(part) for part in version.split(".")]


def test_pythons() -> None:
    """Each Python is named, the lowest one is the bound, and ruff takes it for the lowest, too."""
    named = re.findall(
        r"^Programming Language :: Python :: (3\.\d+)$", metadata()["metadata"]["classifiers"], re.M
    )
    assert tuple(named) == PYTHONS
    assert metadata()["options"]["python_requires"] == f">= {PYTHONS[0]}"
    assert f'target-version = "py{PYTHONS[0].replace(".", "")}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "field", ["description", "long_description", "author", "license", "license_files", "keywords"]
)
def test_metadata_is_complete(field: str) -> None:
    """What a package index shows is there."""
    assert metadata()["metadata"][field]


def test_hooks_are_what_script_test_runs() -> None:
    """A hook runs a command of script/test, from the virtual environment that this makes."""
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    script = (ROOT / "script/test").read_text()
    commands = re.findall(r"^ +entry: \.venv/bin/(.+)$", config, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["ruff", "ruff", "mypy"]
    for command in commands:
        assert re.search(rf"^{re.escape(command)}( \|\||$)", script, re.MULTILINE), command


def test_script_test_runs_the_jobs() -> None:
    """Continuous integration builds what would be released, and tests with the lowest versions."""
    script = (ROOT / "script/test").read_text()
    for job in ("check-release", "test-lowest"):
        assert re.search(rf"^ +script/{job}$", script, re.MULTILINE)


def test_the_changelog_has_this_version() -> None:
    """Its first section is of the version that is in the program, released or not."""
    text = (ROOT / "tefmanager/__init__.py").read_text()
    [version] = re.findall(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    [first, *_] = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(version)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", first)
