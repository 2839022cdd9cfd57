"""Where the log goes and what it looks like, by our options and twistd's; no service is needed for that."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.integration.daemon import until
from tests.integration.logged import TWISTD, environment, twistd

FOREGROUND = ("-n", "--pidfile=", "tef-manager")
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (debug|info|warn|error|critical) "
    r"(\[[\w.]+\] .*|[A-Z_]+\|.*)"
)
WAITING = "WAITING_FOR|database /nowhere"


def holds(file: Path, text: str) -> bool:
    """Tell whether a file is there and has a text in it."""
    return file.exists() and text in file.read_text()


def run_until(folder: Path, text: str, *arguments: str, **variables: str) -> str:
    """Run twistd until its output has a text, end it, and return all of the output."""
    output = folder / "output"
    with (
        output.open("wb") as file,
        twistd(folder, *arguments, stdout=file, stderr=file, variables=variables),
    ):
        until(lambda: holds(output, text), text)
    return output.read_text()


def test_standard_output(tmp_path: Path) -> None:
    """Without any file each line has time, level and event, or the origin of what is no event."""
    lines = run_until(tmp_path, WAITING, *FOREGROUND).splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert any(line.endswith(" info [tefmanager.service.startup] SIGTERM: stopping") for line in lines)


def test_json(tmp_path: Path) -> None:
    """Each line is an object, with the fields by name."""
    lines = run_until(tmp_path, "WAITING_FOR", *FOREGROUND, "--log-format=json").splitlines()
    found = [json.loads(line) for line in lines]
    [waiting] = [each for each in found if each.get("event") == "WAITING_FOR"]
    assert waiting["level"] == "warn"
    assert waiting["what"].startswith("database /nowhere")
    assert all({"time", "level"} < set(each) for each in found)


def test_level(tmp_path: Path) -> None:
    """What is less important is left out."""
    lines = run_until(tmp_path, WAITING, *FOREGROUND, "--log-level=warn").splitlines()
    assert {LINE.fullmatch(line)[1] for line in lines} == {"warn"}  # type: ignore[index]


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal(tmp_path: Path, form: str) -> None:
    """To systemd's socket each line has its priority, and in text neither time nor level."""
    ours, theirs = socket.socketpair()
    found = os.fstat(theirs.fileno())
    variables = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}", "TEF_MANAGER_LOG_FORMAT": form}
    with twistd(tmp_path, *FOREGROUND, stdout=theirs, variables=variables):
        theirs.close()
        text = b""
        while b"WAITING_FOR" not in text:
            text += ours.recv(1 << 16)
        start = {"text": rb"<4>WAITING_FOR\|", "json": rb'<4>\{"time":"[^"]+","level":"warn","event"'}[form]
        assert re.search(rb"^" + start, text, re.MULTILINE)
        assert all(re.match(rb"<[2-7]>[\[{A-Z]", line) for line in text.splitlines())
    ours.close()


def test_standard_output_that_nobody_reads(tmp_path: Path) -> None:
    """The manager goes on, and ends when it is told to."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    with twistd(tmp_path, *FOREGROUND, stdout=write):
        pass  # to end it must get past the lines that it logs at its start and at its end
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("way", ["option", "variable", "file"])
def test_policy_to_name_the_file(tmp_path: Path, way: str) -> None:
    """By option, environment and INI file; a relative name counts from where twistd was started."""
    (tmp_path / "x.ini").write_text("[tef-manager]\nlog-file = <env>.log\n")
    options = {"option": ["--log-file=dev.log"], "variable": [], "file": ["--config=x.ini"]}[way]
    variables = {"TEF_MANAGER_LOG_FILE": "dev.log"} if way == "variable" else {}
    (tmp_path / "elsewhere").mkdir()
    arguments = ("-n", "--pidfile=", "--rundir=elsewhere", "tef-manager", *options)
    with twistd(tmp_path, *arguments, stdout=subprocess.PIPE, variables=variables) as process:
        until(lambda: holds(tmp_path / "dev.log", WAITING), WAITING)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    assert "Server Shut Down." in (tmp_path / "dev.log").read_text()


def test_a_daemon(tmp_path: Path) -> None:
    """In the background its file is readable for its group, and follows SIGHUP; it is the only one."""
    log, pid = tmp_path / "tef.log", tmp_path / "pid"
    arguments = [TWISTD, f"--pidfile={pid}", "tef-manager", f"--log-file={log}"]
    subprocess.run(arguments, cwd=tmp_path, env=environment(tmp_path), check=True)
    until(pid.exists)
    number = int(pid.read_text())
    try:
        until(lambda: holds(log, WAITING), WAITING)
        assert stat.S_IMODE(log.stat().st_mode) == 0o640
        log.rename(tmp_path / "tef.log.1")
        os.kill(number, signal.SIGHUP)
        until(log.exists, "the new file")
        os.kill(number, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{number}").exists(), "its end")
    finally:
        if Path(f"/proc/{number}").exists():
            os.kill(number, signal.SIGKILL)
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
    assert "SIGTERM: stopping" in log.read_text()
    assert not (tmp_path / "twistd.log").exists()


def test_twistds_own_log_file(tmp_path: Path) -> None:
    """Without a file of ours it is written by twistd, and as twistd does it."""
    log = tmp_path / "x.log"
    with twistd(tmp_path, "--logfile=x.log", *FOREGROUND, stdout=subprocess.PIPE) as process:
        until(lambda: holds(log, WAITING), WAITING)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    assert re.search(
        r"^\S+ \[tefmanager#warn\] WAITING_FOR\|database /nowhere", log.read_text(), re.MULTILINE
    )


def test_our_file_counts_before_twistds(tmp_path: Path) -> None:
    """All of the log is in one place."""
    log = tmp_path / "ours.log"
    with twistd(tmp_path, "--logfile=theirs.log", *FOREGROUND, f"--log-file={log}"):
        until(lambda: holds(log, WAITING), WAITING)
    assert not (tmp_path / "theirs.log").exists()


def test_bad_configuration_is_in_the_file(tmp_path: Path) -> None:
    """The line that is on stderr stands there as well."""
    arguments = [TWISTD, *FOREGROUND, "--log-file=x.log", "--patience=x"]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 1
    [line] = (tmp_path / "x.log").read_text().splitlines()
    assert line.endswith(f" critical [tefmanager] {done.stderr.strip()}")
    assert "--patience is 'x'" in line


@pytest.mark.parametrize("more", [(), ("--patience=x",)])
def test_a_file_that_can_not_be_opened(tmp_path: Path, more: tuple[str, ...]) -> None:
    """It ends the start with a line that names it, whatever else is wrong."""
    arguments = [TWISTD, *FOREGROUND, "--log-file=/nowhere/x.log", *more]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "can't be written" in line
    assert "No such file or directory" in line


@pytest.mark.parametrize("option", ["--log-format=xml", "--log-level=loud"])
def test_bad_values(tmp_path: Path, option: str) -> None:
    """They are told like those of any other option."""
    done = subprocess.run(
        [TWISTD, *FOREGROUND, option],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"{option.split('=')[0]} is '{option.split('=')[1]}', expected" in done.stderr
