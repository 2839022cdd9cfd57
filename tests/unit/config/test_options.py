"""The command line: what it holds is what was given, and its help is readable."""

from __future__ import annotations

import pytest
from twisted.python import usage

from tefmanager import __version__
from tefmanager.config.config import config_from
from tefmanager.config.options import Options
from tefmanager.config.settings import SETTINGS
from tefmanager.tap import Options as TapOptions

PROMISED = {
    "config": "none",
    "name-prefix": "tef.<env>",
    "in-queue": "<prefix>.manager",
    "bind": "none",
    "worker-update-interval": "30",
    "missing-interval": "3 x worker-update-interval",
    "time-limit": "600",
    "dispatch-timeout": "30",
    "release-grace": "2",
    "dispatch-interval": "10",
    "max-attempts": "5",
    "patience": "10",
    "silence-limit": "12",
    "etcd-api": "auto",
    "unknown-resources": "allow",
    "history-days": "7",
    "sandbox": "no",
}
"""Names and defaults that users rely on."""


def parsed(*arguments: str) -> Options:
    """Return the options of a command line."""
    options = Options()
    options.parseOptions(arguments)
    return options


@pytest.fixture
def help_text(monkeypatch: pytest.MonkeyPatch) -> str:
    """The help, as twistd shows it on 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    parent = usage.Options()  # type: ignore[no-untyped-call]
    parent.subCommand = "tef-manager"
    options = Options()
    options.parent = parent
    return str(options)


def test_twistd_finds_the_options() -> None:
    """The plugin's module hands them on."""
    assert TapOptions is Options


def test_nothing_given() -> None:
    """Nothing is set by default, so that environment and file have their say."""
    assert not any(parsed().values())


@pytest.mark.parametrize("name", PROMISED)
def test_promised_options(name: str) -> None:
    """Names and defaults are as promised."""
    assert SETTINGS[name].option
    assert SETTINGS[name].default_shown == PROMISED[name]


@pytest.mark.parametrize(
    "name", [name for name, each in SETTINGS.items() if each.option and each.kind.sign]
)
def test_option_takes_a_value(name: str) -> None:
    """Each setting that is an option may be given, as two words or as one."""
    expected = ["a:b"] if name == "bind" else "a:b"
    assert parsed(f"--{name}", "a:b")[name] == parsed(f"--{name}=a:b")[name] == expected


def test_bind_is_repeatable() -> None:
    """Each binding counts, those of another command line don't."""
    assert parsed("--bind", "a:b", "--bind", "c:d")["bind"] == ["a:b", "c:d"]
    assert parsed("--bind", "e:f")["bind"] == ["e:f"]


def test_options_make_a_config() -> None:
    """What the command line holds is what the configuration takes."""
    config = config_from(parsed("--sandbox", "--bind", "a:b", "--time-limit", "0.5", "--env=test"), {})
    assert (config.sandbox, config.bindings, config.time_limit, config.env) == (
        True,
        (("a", "b"),),
        0.5,
        "test",
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--time-limt=3"], "--time-limt is not an option (did you mean --time-limit?)"),
        (
            ["--amqp-password=hunter2"],
            "--amqp-password is not an option, expected it in TEF_MANAGER_AMQP_PASSWORD",
        ),
        (["hunter2"], "command line: there is an argument, but tef-manager takes only options"),
        (["--time-limit"], "command line: option --time-limit requires argument"),
        (["--sandbox=hunter2"], "command line: option --sandbox must not have an argument"),
        (["-phunter2"], "command line: option -p not recognized"),
        (["--e=hunter2"], "command line: option --e not a unique prefix"),
    ],
)
def test_command_line_that_is_not_understood(arguments: list[str], problem: str) -> None:
    """It is told as a problem, without any value, and nothing is raised."""
    found = parsed(*arguments)["problem"]
    assert found.startswith(problem)
    assert "hunter2" not in found


def test_help_fits_80_columns(help_text: str) -> None:
    """No line is longer than a terminal is wide, or has trailing blanks."""
    lines = help_text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert lines[0].endswith(" tef-manager [options]")


def test_help_shows_every_option_with_its_default(help_text: str) -> None:
    """Name, value, meaning and default of each option, and of no other setting."""
    flat = " ".join(help_text.split())
    for name, setting in SETTINGS.items():
        sign = f" {setting.kind.sign}" if setting.kind.sign else ""
        entry = f"--{name}{sign} {setting.help} [{setting.default_shown}]"
        assert (entry in flat) == setting.option


def test_help_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide terminal is used; a strange width is not believed."""
    monkeypatch.setenv("COLUMNS", "120")
    assert 110 < max(map(len, Options().getUsage().splitlines())) <= 120
    monkeypatch.setenv("COLUMNS", "wide")
    assert max(map(len, Options().getUsage().splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is the manager's, not Twisted's."""
    with pytest.raises(SystemExit) as caught:
        parsed("--version")
    assert not caught.value.code
    assert capsys.readouterr().out == f"tef-manager {__version__}\n"
