"""``twistd tef-manager`` as a process: bad configuration is one line, exit status 1, and no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TWISTD = shutil.which("twistd", path=sysconfig.get_path("scripts")) or "twistd"
SECRET = "hunter2"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def plugin_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Twisted finds the plugin where an installation puts it."""
    folder = tmp_path_factory.mktemp("plugins")
    target = folder / "twisted" / "plugins"
    target.mkdir(parents=True)
    shutil.copy(ROOT / "twisted_plugin" / "tef_manager.py", target)
    return folder


@pytest.fixture
def run(plugin_path: Path, tmp_path: Path) -> Run:
    """Run twistd in a folder of its own, with these arguments and variables and no other of ours."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
        environ = {**kept, "PYTHONPATH": f"{plugin_path}:{ROOT}", "COLUMNS": "80", **variables}
        return subprocess.run(
            [TWISTD, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
        )

    return run


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a refused start has left on stderr."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tef-manager: ")
    return line


@pytest.fixture
def good(tmp_path: Path) -> dict[str, str]:
    """Variables that are enough to start."""
    (tmp_path / "database_dev.yml").write_text(f"database: tef\nusername: bob\npassword: {SECRET}\n")
    return {"TEF_AMQP_URL_DEV": f"amqp://bob:{SECRET}@127.0.0.1:1", "TEF_MANAGER_DB_CONFIG": str(tmp_path)}


BAD: dict[str, tuple[list[str], Mapping[str, str], str]] = {
    "environment": ([], {"TEF_ENV": "production"}, "TEF_ENV is 'production'"),
    "no broker": ([], {"TEF_AMQP_URL_DEV": ""}, "TEF_AMQP_URL_DEV is not set"),
    "broker": ([], {"TEF_AMQP_URL_DEV": f"bob:{SECRET}@h"}, "TEF_AMQP_URL_DEV: an AMQP URI begins with"),
    "no database": ([], {"TEF_MANAGER_DB_CONFIG": ""}, "TEF_MANAGER_DB_CONFIG is not set"),
    "database file": (
        [],
        {"TEF_ENV": "test", "TEF_AMQP_URL_TEST": "amqp://h"},
        "database_test.yml does not exist",
    ),
    "etcd": ([], {"TEF_ETCD_HOST_DEV": f"http://root:{SECRET}@h"}, "TEF_ETCD_HOST_DEV is '***'"),
    "variable": ([], {"TEF_MANAGER_PATIENCE": "long"}, "TEF_MANAGER_PATIENCE is 'long'"),
    "option's value": (["--max-attempts=-1"], {}, "--max-attempts is '-1'"),
    "option": (["--max-atempts", "1"], {}, "did you mean --max-attempts?"),
    "argument": ([SECRET], {}, "takes only options"),
    "password": (["--amqp-url", f"amqp://bob:{SECRET}@h"], {}, "--amqp-url has a password in it"),
    "broken URL": (
        [],
        {"TEF_AMQP_URL_DEV": f"amqp://bob:x/{SECRET}@h"},
        "TEF_AMQP_URL_DEV: write @ as %40",
    ),
    "bytes": (
        [],
        {"TEF_ETCD_USER_DEV": "root", "TEF_ETCD_PASSWORD_DEV": f"{SECRET}\udcff"},
        "TEF_ETCD_PASSWORD_DEV is not UTF-8, expected text",
    ),
    "no file": (["--config", "gone.ini"], {}, "--config: gone.ini can't be read"),
    "several": (["--bind", "x", "--patience", "x"], {}, "; --bind is 'x'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_configuration(run: Run, good: dict[str, str], kind: str) -> None:
    """Each kind of bad configuration ends in one clear line."""
    arguments, variables, text = BAD[kind]
    done = run("-n", "--pidfile=", "tef-manager", *arguments, **{**good, **variables})
    assert text in refusal(done)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"password: @{SECRET}", "database_dev.yml:1: is not valid YAML"),
        (f"adapter: mysql2\npassword: {SECRET}", "adapter is 'mysql2', expected postgresql"),
        (f"password: <%= '{SECRET}' %>", "database_dev.yml:1: has an ERB tag"),
    ],
)
def test_bad_database_file(run: Run, good: dict[str, str], tmp_path: Path, text: str, problem: str) -> None:
    """A bad file is named, its password is not."""
    (tmp_path / "database_dev.yml").write_text(text)
    assert problem in refusal(run("-n", "--pidfile=", "tef-manager", **good))


def test_bad_ini(run: Run, good: dict[str, str], tmp_path: Path) -> None:
    """A bad INI file is named with its key."""
    (tmp_path / "x.ini").write_text("[tef-manager]\ntime-limt = 3\n")
    line = refusal(run("-n", "--pidfile=", "tef-manager", "--config", "x.ini", **good))
    assert line.endswith("--config: x.ini: unknown key time-limt (did you mean time-limit?)")


@pytest.mark.parametrize("mode", [["-n"], []])
def test_line_is_in_the_log_too(run: Run, tmp_path: Path, mode: list[str]) -> None:
    """In the foreground and as a daemon, the log file that twistd is given says the same, once."""
    line = refusal(run(*mode, "--pidfile=", "--logfile=x.log", "tef-manager"))
    (logged,) = (tmp_path / "x.log").read_text().splitlines()
    assert logged.endswith(line)


def test_daemon_logs_to_its_usual_file(run: Run, tmp_path: Path) -> None:
    """Without a log file's name, a daemon's log is twistd's; and no daemon and no pid file is left."""
    line = refusal(run("tef-manager", "--env", "x"))
    assert (tmp_path / "twistd.log").read_text().endswith(f"{line}\n")
    assert not (tmp_path / "twistd.pid").exists()


def test_custom_log_observer(run: Run, plugin_path: Path, tmp_path: Path) -> None:
    """An observer that ``--logger`` names gets the line."""
    (tmp_path / "own.py").write_text(
        "from twisted.logger import textFileLogObserver\n"
        "def observer():\n    return textFileLogObserver(open('own.log', 'a', buffering=1))\n"
    )
    arguments = ("-n", "--pidfile=", "--logger=own.observer", "tef-manager", "--env", "x")
    line = refusal(run(*arguments, PYTHONPATH=f"{plugin_path}:{ROOT}:{tmp_path}"))
    assert (tmp_path / "own.log").read_text().endswith(f"{line}\n")


def test_log_that_can_not_be_written(run: Run) -> None:
    """The line is on stderr all the same, and tells why the log lacks it."""
    line = refusal(run("-n", "--pidfile=", "--logfile=/nowhere/x.log", "tef-manager", "--env=x"))
    assert line.endswith("(and the log can't be written: No such file or directory)")


def test_help(run: Run) -> None:
    """The help is found by twistd, and needs no configuration."""
    done = run("tef-manager", "--help", TEF_ENV="nonsense")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: twistd [options] tef-manager [options]\n\nSends each test task")
    assert "--worker-update-interval SECONDS" in done.stdout


def test_listed_among_the_commands(run: Run) -> None:
    """Twistd's own help names the command."""
    assert "tef-manager" in run("--help").stdout
