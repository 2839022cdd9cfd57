"""The command line of ``twistd tef-manager``, built from the table of settings."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from twisted.python import usage

from tefmanager import __version__
from tefmanager.config.settings import GROUPS, SETTINGS, Setting
from tefmanager.config.sources import nearest

COLUMN = 31
"""The column in which help texts begin."""

INTRODUCTION = (
    "Sends each test task to a free worker of its type as soon as all its shared resources are free. "
    "An option that is not given here is taken from the environment, then from the file that --config "
    "names, then from the defaults in brackets. Times are in seconds and may be fractions."
)

FAREWELL = (
    "Each option can also be set in the environment as TEF_MANAGER_<OPTION> (TEF_MANAGER_TIME_LIMIT=600). "
    "Put passwords there or in the file, because ps shows the command line. RabbitMQ's password is in "
    "TEF_AMQP_URL_<ENV>, or in TEF_AMQP_USER_<ENV> and TEF_AMQP_PASSWORD_<ENV>; PostgreSQL's is in "
    "database_<env>.yml."
)

OWN = [("--help", "Show this help."), ("--version", "Show the version.")]


def _given_once() -> list[Setting[Any]]:
    return [setting for setting in SETTINGS.values() if setting.option and not setting.repeatable]


class Options(usage.Options):
    """The options of the command line by name; None or 0 if not given. Values are not checked here.

    If the command line can't be parsed, "problem" says why, so that it is reported like any other wrong
    setting, without twistd's own help in front.
    """

    optParameters: ClassVar = [
        [setting.name, None, None, setting.help] for setting in _given_once() if setting.kind.sign
    ]
    optFlags: ClassVar = [
        [setting.name, None, setting.help] for setting in _given_once() if not setting.kind.sign
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse a command line without its program."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            self["problem"] = _explained(str(error))

    def opt_bind(self, binding: str) -> None:
        """Add a binding."""
        self.setdefault("bind", []).append(binding)

    def opt_version(self) -> None:
        """Show the version."""
        print(f"tef-manager {__version__}")  # noqa: T201
        sys.exit(0)

    def parseArgs(self, *args: str) -> None:
        """Refuse every argument that is not an option, without showing it: it may be a secret."""
        if args:
            raise usage.UsageError("there is an argument, but tef-manager takes only options")

    def getUsage(self, width: int | None = None) -> str:
        """Return the help for a terminal of this width."""
        columns = width or _columns()
        groups = (_group(title, columns) for title in GROUPS)
        own = "Help:\n" + "".join(_entry(name, text, columns) for name, text in OWN)
        return "\n" + "\n".join(
            [_paragraph(INTRODUCTION, columns), *groups, own, _paragraph(FAREWELL, columns)]
        )


def _columns() -> int:
    text = os.environ.get("COLUMNS", "")
    return max(60, int(text)) if re.fullmatch("[0-9]{1,4}", text) else 80


def _paragraph(text: str, columns: int) -> str:
    return textwrap.fill(text, columns, break_on_hyphens=False) + "\n"


def _group(title: str, columns: int) -> str:
    return f"{title}:\n" + "".join(_group_lines(title, columns))


def _group_lines(title: str, columns: int) -> Iterator[str]:
    for setting in GROUPS[title]:
        if setting.option:
            sign = f" {setting.kind.sign}" if setting.kind.sign else ""
            text = f"{setting.help} [{setting.default_shown}]"
            yield _entry(f"--{setting.name}{sign}", text, columns)


def _entry(name: str, text: str, columns: int) -> str:
    lines = textwrap.wrap(text, columns - COLUMN, break_on_hyphens=False)
    first = f"  {name}".ljust(COLUMN)
    head = [first + lines.pop(0)] if len(first) == COLUMN and first.endswith(" ") else [first]
    return "".join(f"{line}\n" for line in [*head, *(" " * COLUMN + line for line in lines)])


def _explained(error: str) -> str:
    """Return the parser's error with a hint; it names options, never their values."""
    match = re.fullmatch(r"option --(\S+) not recognized", error)
    if match is None:
        return f"command line: {error}"
    setting = SETTINGS.get(match[1])
    if setting is not None:
        names = ", ".join((setting.own_variable, *setting.variables))
        return (
            f"--{setting.name} is not an option, expected it in {names} or in the file that --config names"
        )
    known = [f"--{name}" for name, each in SETTINGS.items() if each.option]
    return f"--{match[1]} is not an option{nearest('--' + match[1], known)}"
