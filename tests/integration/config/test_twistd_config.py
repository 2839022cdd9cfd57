"""``twistd tef-manager`` as a process: bad configuration is one line, exit status 1, and no traceback."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from tests.paths import ROOT

TWISTD = shutil.which("twistd", path=sysconfig.get_path("scripts")) or "twistd"
SECRET = "hunter2"

T = TypeVar("T")
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


# --- files that twistd writes, and folders that it changes ---


@pytest.fixture
def nobody() -> tuple[str, str]:
    """The options that make twistd a user without rights, which is root's to do."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    user = pwd.getpwnam("nobody")
    return f"--uid={user.pw_uid}", f"--gid={user.pw_gid}"


def test_pid_file_that_can_not_be_written(run: Run, good: dict[str, str]) -> None:
    """It is one line, and not a traceback of the daemon's."""
    line = refusal(run("--pidfile=/proc/none/x.pid", "tef-manager", **good))
    assert "twistd can't write its pid file /proc/none/x.pid: No such file or directory; expected" in line


def test_a_working_folder_that_is_not_there(run: Run, good: dict[str, str], tmp_path: Path) -> None:
    """It is named, and nobody becomes a daemon."""
    line = refusal(run("--rundir=gone", "tef-manager", **good))
    assert f"twistd can't go to {tmp_path}/gone (--rundir), expected a folder that is there" in line


@pytest.mark.parametrize("options", [(), ("--pidfile=",)], ids=["pid file", "log"])
def test_working_folder_that_can_not_be_written(
    plugin_path: Path, good: dict[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A daemon keeps its pid file and its log there unless it is told otherwise."""
    # Root writes everywhere, unless it may not what no other user may.
    rightless = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    tmp_path.chmod(0o555)
    done = subprocess.run(
        [*rightless, sys.executable, TWISTD, *options, "tef-manager"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{plugin_path}:{ROOT}", **good},
        capture_output=True,
        text=True,
        timeout=60,
    )
    tmp_path.chmod(0o755)
    what = "/twistd.log" if options else "its pid file"
    assert f"tef-manager: twistd can't write {what}" in done.stderr.replace(str(tmp_path), "")
    assert "Traceback" not in done.stderr


def test_a_user_that_can_not_read_the_program(
    run: Run, good: dict[str, str], nobody: tuple[str, str], plugin_path: Path, tmp_path: Path
) -> None:
    """Whose Python is in somebody's home is told at once, and not after ten silent seconds."""
    hidden = tmp_path / "hidden"
    shutil.copytree(plugin_path, hidden)
    hidden.chmod(0o700)
    line = refusal(run(*nobody, "--pidfile=", "tef-manager", **{**good, "PYTHONPATH": f"{hidden}:{ROOT}"}))
    assert re.search(
        r"user nobody \(--uid\) can't read /\S+; expected Python and tef-manager where it can", line
    )


def test_relative_names_are_those_of_the_start(run: Run, good: dict[str, str], tmp_path: Path) -> None:
    """A daemon that changed its folder still finds its files when it reloads."""
    (tmp_path / "rundir").mkdir()
    (tmp_path / "x.ini").write_text("[tef-manager]\ndb-config = .\nlog-file = x.log\nhttp =\n")
    variables = {name: text for name, text in good.items() if name != "TEF_MANAGER_DB_CONFIG"}
    arguments = ("--rundir=rundir", "--pidfile=x.pid", "tef-manager", "--config=x.ini")
    assert run(*arguments, **variables).returncode == 0
    pid = wait_for(lambda: int((tmp_path / "x.pid").read_text()))
    try:
        log = tmp_path / "x.log"
        wait_for(lambda: re.search("WAITING_FOR", log.read_text()))
        (tmp_path / "x.ini").write_text(
            "[tef-manager]\ndb-config = .\nlog-file = x.log\nhttp =\npatience = 7\n"
        )
        os.kill(pid, signal.SIGHUP)
        assert wait_for(lambda: re.search(r"RELOAD\S*", log.read_text()))[0] == "RELOADED|patience=7|"
    finally:
        os.kill(pid, signal.SIGTERM)


def wait_for(look: Callable[[], T | None]) -> T:
    """Return what is there as soon as it is."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if (found := look()) is not None:
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise TimeoutError
