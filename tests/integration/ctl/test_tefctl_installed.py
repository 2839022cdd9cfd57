"""tefctl as it is installed: the program itself, and completion in the shells that its page names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tefmanager import __version__
from tefmanager.ctl.main import cli
from tests.integration.debian import program
from tests.integration.pseudoterminal import PATIENCE, PseudoTerminal
from tests.paths import ROOT

TEFCTL = Path(sys.executable).with_name("tefctl")

PAGE = (ROOT / "docs/tefctl.md").read_text()


def environment(folder: Path) -> dict[str, str]:
    """Return what a user has who has put the virtual environment first in the path, and nothing of ours."""
    path, home = f"{TEFCTL.parent}:{os.environ['PATH']}", str(folder)
    return {"PATH": path, "HOME": home, "XDG_CONFIG_HOME": home, "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where the checkout is not on Python's path."""
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE
    )


def line_of(shell: str) -> str:
    """Return the line that the page tells users of a shell to put into its file."""
    [line] = re.findall(rf"^(.*\b{shell}_source.*?)\s*#", PAGE, re.MULTILINE)
    return str(line)


def test_the_program(tmp_path: Path) -> None:
    """It is there, names its version, lists its commands, and knows a wrong command line."""
    assert run(tmp_path, "tefctl", "--version").stdout == f"tefctl, version {__version__}\n"
    told = run(tmp_path, "tefctl", "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert set(cli.commands) <= set(re.findall(r"^  ([a-z-]+)", told.stdout, re.MULTILINE))
    assert run(tmp_path, "tefctl", "dance").returncode == 2
    assert run(tmp_path, "tefctl", "status").returncode == 3


def test_bash_completes(tmp_path: Path) -> None:
    """Commands, their options and what these may be are offered."""
    script = """
        %s
        function=$(complete -p tefctl | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')
        offered() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            "$function" "$1"
            echo "${COMPREPLY[*]}"
        }
        offered tefctl su
        offered tefctl tasks --s
        offered tefctl tasks --state wor
    """
    done = run(tmp_path, "bash", "--norc", "-c", script % line_of("bash"))
    assert (done.stdout.splitlines(), done.stderr) == (["submit suites", "--suite --state", "working"], "")


def test_fish_completes(tmp_path: Path) -> None:
    """Commands, their options and what these may be are offered, with what they do."""
    asked = ("tefctl su", "tefctl tasks --s", "tefctl tasks --state wor")
    script = "; ".join([line_of("fish"), *(f'complete -C "{line}"; echo' for line in asked)])
    done = run(tmp_path, program("fish", "fish"), "--no-config", "-c", script)
    groups = [[line.split("\t")[0] for line in group.splitlines()] for group in done.stdout.split("\n\n")]
    assert (groups[:3], done.stderr) == ([["submit", "suites"], ["--state", "--suite"], ["working"]], "")
    assert "List unfinished and paused suites" in done.stdout


@pytest.fixture
def zsh(tmp_path: Path) -> Iterator[PseudoTerminal]:
    """A zsh with nothing but its own completion, and ours."""
    terminal = PseudoTerminal(tmp_path, environment(tmp_path), program("zsh", "zsh"), "-f", "-i")
    terminal.type("PS1='> '; autoload -Uz compinit; compinit -u; " + line_of("zsh") + "; echo re''ady\n")
    terminal.until("ready")
    yield terminal
    terminal.close()


def test_zsh_completes(zsh: PseudoTerminal) -> None:
    """A command, an option and what it may be are completed where there is one only, by the tabulator."""
    zsh.type("tefctl pause\t")
    zsh.until("tefctl pause-suite ")
    zsh.type("\x15tefctl tasks --sta\t")
    zsh.until("--state ")
    zsh.type("wor\t")
    zsh.until("working")
