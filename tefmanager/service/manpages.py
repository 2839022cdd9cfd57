"""Makes the manual pages from the texts of ``--help``: ``python -m tefmanager.service.manpages FOLDER``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tefmanager import __version__
from tefmanager.config.options import FAREWELL, INTRODUCTION, OWN
from tefmanager.config.settings import GROUPS, Setting
from tefmanager.ctl.main import cli

_DAEMON = "sends each test task to a free worker as soon as all its resources are free"
_CONTROL = "query and control a tef-manager"

_SIGNALS = """\
SIGHUP: the manager reopens its log file and reads its configuration again. Some settings take \
effect at once; the log names those that need a restart.

SIGTERM: the manager finishes what it is doing, within some seconds, and exits with status 0. Waiting \
tasks stay in the database."""

_FILES = """\
/etc/tef-manager/tef-manager.ini: settings, one on each line.

/etc/tef-manager/database_<env>.yml: how to connect to PostgreSQL.

/etc/default/tef-manager: environment variables of the service; those of tef-manager@NAME are in \
/etc/default/tef-manager-NAME.

/var/log/tef-manager: the log.

/usr/share/doc/tef-manager: all other documentation."""

_STATUS = """\
0: the manager was stopped by a signal.

1: the configuration is wrong, or the database belongs to a newer version. A line on standard error \
says more."""


def main(folder: str) -> None:
    """Write the pages into a folder."""
    (Path(folder) / "tef-manager.8").write_text(daemon_page(), "utf-8")
    (Path(folder) / "tefctl.1").write_text(control_page(), "utf-8")


def daemon_page() -> str:
    """Return ``tef-manager(8)``."""
    return _page(
        "tef-manager",
        8,
        _DAEMON,
        ".B twistd\n[\\fItwistd options\\fR]\n.B tef-manager\n[\\fIoptions\\fR]\n",
        _section("DESCRIPTION", _paragraphs(INTRODUCTION), _paragraphs(FAREWELL)),
        _section("OPTIONS", *(_group(title) for title in GROUPS), *_own()),
        _section("SIGNALS", _paragraphs(_SIGNALS)),
        _section("EXIT STATUS", _paragraphs(_STATUS)),
        _section("FILES", _paragraphs(_FILES)),
        ".SH SEE ALSO\n.BR tefctl (1),\n.BR twistd (1),\n.BR systemctl (1)\n",
    )


def control_page() -> str:
    """Return ``tefctl(1)``."""
    return _page(
        "tefctl",
        1,
        _CONTROL,
        ".B tefctl\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n",
        _section("DESCRIPTION", _help_of(cli)),
        _section("OPTIONS", *_options_of(cli)),
        _section("COMMANDS", *_commands_of(cli, "")),
        ".SH SEE ALSO\n.BR tef-manager (8)\n",
    )


def _page(name: str, section: int, what: str, synopsis: str, *sections: str) -> str:
    head = f'.TH {name.upper()} {section} "" "tef-manager {__version__}"\n.SH NAME\n'
    return f"{head}{_literal(name)} \\- {_literal(what)}\n.SH SYNOPSIS\n{synopsis}" + "".join(sections)


def _section(title: str, *parts: str) -> str:
    return f".SH {title}\n" + "".join(parts)


# --- the daemon's ---


def _group(title: str) -> str:
    settings = (_setting(each) for each in GROUPS[title] if each.option)
    return f".SS {title}\n" + "".join(settings)


def _setting(setting: Setting[Any]) -> str:
    sign = f" {setting.kind.sign}" if setting.kind.sign else ""
    return _entry(f"--{setting.name}{sign}", f"{setting.help} [{setting.default_shown}]")


def _own() -> Iterator[str]:
    yield ".SS Help\n"
    yield from (_entry(name, text) for name, text in OWN)


# --- tefctl's ---


def _commands_of(group: click.Group, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        full = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from _commands_of(command, full)
        else:
            arguments = (_argument(each) for each in command.params if isinstance(each, click.Argument))
            yield f'.SS "{_literal(" ".join([full, *arguments]))}"\n'
            yield _help_of(command)
            yield from _options_of(command)


def _argument(argument: click.Argument) -> str:
    return argument.human_readable_name + (" ..." if argument.nargs == -1 else "")


def _options_of(command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    for each in command.params:
        if isinstance(each, click.Option) and (record := each.get_help_record(context)):
            yield _entry(*record)


def _help_of(command: click.Command) -> str:
    return _paragraphs(inspect.cleandoc(command.help or ""))


# --- roff ---


def _paragraphs(text: str) -> str:
    r"""Return a text as paragraphs; a paragraph that begins with a line ``\b`` keeps its line breaks."""
    return "".join(_paragraph(each) for each in text.split("\n\n"))


def _paragraph(text: str) -> str:
    kept = text.startswith("\b\n")
    lines = "".join(f"{_literal(line)}\n" for line in text.removeprefix("\b\n").splitlines())
    return f".PP\n.nf\n{lines}.fi\n" if kept else f".PP\n{lines}"


def _entry(name: str, text: str) -> str:
    return f".TP\n.B {_literal(name)}\n{_literal(' '.join(text.split()))}\n"


def _literal(text: str) -> str:
    r"""Return a text in which roff interprets nothing: ``\`` and ``-`` stand for themselves."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    main(sys.argv[1])
