"""The Debian package holds what the project is made of, and its manual pages all options there are."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import click
import pytest

from tefmanager import __version__
from tefmanager.config.settings import SETTINGS
from tefmanager.ctl.main import cli
from tefmanager.service.manpages import control_page, daemon_page, main
from tests.paths import ROOT
from tests.unit.house.test_docs import commands_of, options_of

DEBIAN = ROOT / "debian"
SCRIPT = ROOT / "script/test-deb"


def plain(page: str) -> str:
    """Return a manual page's text without what only roff reads."""
    return page.replace("\\-", "-").replace("\\&", "").replace("\\(dq", '"').replace("\\e", "\\")


# --- manual pages ---


def test_the_daemons_page_has_all_options() -> None:
    """Every option has an entry with its help and default, and what is no option has none."""
    page = plain(daemon_page())
    for setting in SETTINGS.values():
        entry = re.search(rf"^\.B --{setting.name}( \S+)?\n(.*)$", page, re.MULTILINE)
        if setting.option:
            assert entry is not None, setting.name
            assert entry[2] == f"{setting.help} [{setting.default_shown}]"
        else:
            assert entry is None


def test_the_page_of_tefctl_has_all_commands_and_options() -> None:
    """Every command has a heading, and every option an entry."""
    page = plain(control_page())
    commands = {name.removeprefix("tefctl ") for name in commands_of(cli, "tefctl")}
    headings = re.findall(r'^\.SS "([a-z -]+?)(?: \[?[A-Z].*)?"$', page, re.MULTILINE)
    assert set(headings) == commands
    assert len(headings) == len(commands)
    entries = re.findall(r"^\.B (-.*)$", page, re.MULTILINE)
    named = {option for entry in entries for option in re.findall(r"--[a-z-]+", entry)}
    assert named == {option for option in options_of(cli) if option.startswith("--")}


def test_nothing_of_a_text_is_a_request() -> None:
    """A line that begins with a dot or an apostrophe is text, and so is a backslash."""
    requests = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".nf", ".fi"}
    lines = [*daemon_page().splitlines(), *control_page().splitlines()]
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} <= requests
    assert set(re.findall(r"\\.", "\n".join(lines))) <= {"\\-", "\\&", "\\e", "\\f", "\\("}


def test_kept_lines() -> None:
    """Examples keep their lines, and the sign that says so is not shown."""
    page = control_page()
    assert ".nf\nExamples:\n  tefctl status\n" in page
    assert "\b" not in page


def test_pages_are_written(tmp_path: Path) -> None:
    """Each goes to the file that the package takes it from."""
    main(str(tmp_path))
    listed = [Path(line).name for line in (DEBIAN / "tef-manager.manpages").read_text().split()]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(listed)


def test_every_command_says_what_it_does() -> None:
    """No entry of the page is empty."""

    def walk(group: click.Group) -> list[click.Command]:
        below = [each for each in group.commands.values() if isinstance(each, click.Group)]
        own = [each for each in group.commands.values() if not isinstance(each, click.Group)]
        return own + [each for one in below for each in walk(one)]

    assert [each.name for each in walk(cli) if not each.help] == []


# --- the package ---


def test_version() -> None:
    """The changelog's first entry is of this version."""
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    assert re.fullmatch(rf"tef-manager \({re.escape(__version__)}(\+\S+)?\) \w+; urgency=\w+", first)


def requirements() -> dict[str, str]:
    """Return what is pinned, by name: version and hashes."""
    text = (DEBIAN / "requirements.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {line.partition("==")[0]: line.partition("==")[2] for line in lines}


def test_everything_is_pinned_by_hash() -> None:
    """Each requirement has one version and the hashes of its files."""
    for name, rest in requirements().items():
        assert re.fullmatch(r"[\w.]+\s+(--hash=sha256:[0-9a-f]{64}\s*)+", rest), name


def test_all_that_the_project_needs_is_pinned() -> None:
    """Each requirement of setup.cfg is among them."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    needed = [
        re.split(r"[\[ ]", line)[0] for line in parser["options"]["install_requires"].split("\n") if line
    ]
    names = {re.sub("[-_.]+", "-", name).lower() for name in needed}
    assert names - requirements().keys() == set()
    assert len(names) > 5


def test_the_template_is_the_same_unit() -> None:
    """It differs from the other one by its name only: settings, log, variables and folder."""
    unit, template = (
        (DEBIAN / f"tef-manager{each}.service").read_text().splitlines() for each in ("", "@")
    )
    own = [line for line in template if line not in unit]
    assert own == [
        "Description=TEF manager: sends each test task to a free worker (%i)",
        "Environment=TEF_MANAGER_CONFIG=/etc/tef-manager/%i.ini",
        "Environment=TEF_MANAGER_LOG_FILE=/var/log/tef-manager/%i.log",
        "EnvironmentFile=-/etc/default/tef-manager-%i",
        "RuntimeDirectory=tef-manager-%i",
    ]
    assert len([line for line in unit if line not in template]) == len(own) - 1


def filled_in() -> list[str]:
    """Return the settings that the package fills in."""
    found = re.search(r"^SETTINGS := (.*)$", (DEBIAN / "rules").read_text(), re.MULTILINE)
    assert found is not None
    return found[1].split()


@pytest.mark.parametrize("setting", filled_in())
def test_settings_filled_in(setting: str) -> None:
    """What the package fills in stands in the example just once, as a comment."""
    example = (ROOT / "conf/tef-manager.ini").read_text()
    assert len(re.findall(rf"^#{setting.partition('=')[0]} = ", example, re.MULTILINE)) == 1


def all_on_one_machine() -> str:
    """Return the section of install.md for a machine that has all services."""
    page = (ROOT / "docs/install.md").read_text()
    section = re.search(r"^### All on one machine\n(.*?)^##", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    return section[1]


def test_commands_for_one_machine_are_found() -> None:
    """The section that the package's tests follow is there, with the commands in it."""
    assert len(re.findall("^```sh$", all_on_one_machine(), re.MULTILINE)) == 1
    assert "docs/install.md" in (DEBIAN / "tests/set-up").read_text()
    assert "### All on one machine$" in (DEBIAN / "tests/set-up").read_text()


def test_no_password_is_seen() -> None:
    """None stands on the command line of a program, and the user with the known password is gone."""
    commands = all_on_one_machine()
    programs = [
        line for line in commands.splitlines() if re.match(r"(rabbitmqctl|runuser|systemctl|tefctl) ", line)
    ]
    assert len(programs) >= 5
    assert not [line for line in programs if re.search(r"password|secret|\$", line)]
    assert "rabbitmqctl delete_user guest" in programs


@pytest.mark.parametrize("unit", ["tef-manager.service", "tef-manager@.service"])
def test_memory_has_an_end(unit: str) -> None:
    """Should the manager grow without end, it is not the machine that suffers."""
    assert re.search(r"^MemoryMax=[0-9]+G$", (DEBIAN / unit).read_text(), re.MULTILINE)


def test_variables_are_not_for_everybody() -> None:
    """They may be passwords, of the first manager and of further ones."""
    script = (DEBIAN / "tef-manager.postinst").read_text()
    [files] = re.findall(r"for file in ((?:.|\\\n)*?); do\n.*own root tef-manager 0640", script)
    assert {"/etc/default/tef-manager", "/etc/default/tef-manager-*"} <= set(files.split())


def test_every_package_is_installed() -> None:
    """A folder of the program that is not named is missing where it is installed."""
    [named] = re.findall(r"^packages =\n((?: +\S+\n)+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    found = [path.parent.relative_to(ROOT) for path in (ROOT / "tefmanager").rglob("__init__.py")]
    assert sorted(named.split()) == sorted([*(".".join(path.parts) for path in found), "twisted.plugins"])


def test_pages_agree_on_how_to_install() -> None:
    """README and install.md have one command, the same, and script/test-deb takes it from the README."""
    pages = [(ROOT / page).read_text() for page in ("README.md", "docs/install.md")]
    commands = [re.findall(r"^apt install .*$", page, re.MULTILINE) for page in pages]
    assert commands == [["apt install ./tef-manager_*.deb"]] * 2
    assert 's/^apt install .*/& -y/p\' "$ROOT/README.md"' in SCRIPT.read_text()


def test_commands_for_a_further_manager_are_found() -> None:
    """The block of install.md that script/test-deb follows is there, and followed."""
    page = (ROOT / "docs/install.md").read_text()
    assert len(re.findall("^```sh apt-further$", page, re.MULTILINE)) == 1
    assert "^```sh apt-further$" in SCRIPT.read_text()


def test_every_file_of_the_package_is_on_the_page() -> None:
    """What install.md says of configuration is what the package puts there."""
    page = section("docs/install.md", "By apt")
    places = dict(line.split() for line in (DEBIAN / "tef-manager.install").read_text().splitlines())
    installed = {f"/{folder}/{Path(file).name}" for file, folder in places.items()}
    assert installed == {"/etc/tef-manager/tef-manager.ini", "/etc/tef-manager/database_prod.yml"}
    for place in (*installed, "/etc/default/tef-manager", "/var/log/tef-manager/"):
        assert f"| `{place}` |" in page


def section(page: str, heading: str) -> str:
    """Return what a page says below a heading of its second level."""
    text = (ROOT / page).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("other_0.1.0_amd64.deb", "found: {path}, expected: tef-manager_<version>_<architecture>.deb"),
        ("tef-manager_9_amd64.deb", "found: no file {path}, expected: one that script/build-deb made"),
    ],
)
def test_a_package_that_is_none(tmp_path: Path, name: str, found: str) -> None:
    """script/test-deb says what is wrong with the package that it is given, before it does anything."""
    path = tmp_path / name
    if name.startswith("other"):
        path.touch()
    done = subprocess.run([SCRIPT], env={**os.environ, "DEB": str(path)}, capture_output=True, text=True)
    assert done.returncode == 1
    said = f"test-deb: DEB is the file of a package; {found.format(path=path)}\n"
    assert (done.stdout, done.stderr) == ("", said)
