"""The units of ``docs/install.md`` and ``debian/``: systemd finds them right and safe, and they run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.daemon import Log, plugin_folder, until
from tests.integration.debian import program
from tests.integration.grid_client import fresh
from tests.integration.pages import block, section
from tests.paths import ROOT
from tests.services import Services

PAGE = ROOT / "docs" / "install.md"
UNIT = block(PAGE, "tef-manager.service").text
EXPOSURE = 1.5
"""How exposed a service may be, from 0 to 10 by systemd's count."""

TWISTD = "/opt/tef-manager/bin/twistd"


PACKAGED = "/usr/lib/tef-manager/bin/twistd"

UNITS = {
    "by hand": ("tef-manager.service", UNIT),
    "packaged": ("tef-manager.service", (ROOT / "debian/tef-manager.service").read_text()),
    "template": ("tef-manager@.service", (ROOT / "debian/tef-manager@.service").read_text()),
}
"""The name and text of each unit there is."""


def analyze(folder: Path, which: str, *arguments: str) -> str:
    """Ask systemd-analyze about a unit, which must be content, and return what it says."""
    name, text = UNITS[which]
    installed = PACKAGED if PACKAGED in text else TWISTD
    assert installed in text
    unit = folder / name
    unit.write_text(text.replace(installed, str(Path(sys.executable).with_name("twistd"))))
    command = [program("systemd-analyze", "systemd"), *arguments, str(unit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("which", UNITS)
def test_unit_is_right(which: str, tmp_path: Path) -> None:
    """Systemd finds nothing to complain of in the unit."""
    said = analyze(tmp_path, which, "verify", "--man=no", "--recursive-errors=no")
    assert not [line for line in said.splitlines() if "tef-manager" in line]


@pytest.mark.parametrize("which", UNITS)
def test_unit_is_safe(which: str, tmp_path: Path) -> None:
    """The unit is as little exposed as the project promises."""
    said = analyze(tmp_path, which, "security", "--offline=true", "--no-pager")
    [level] = re.findall(r"Overall exposure level for tef-manager(?:@\S*)?\.service: ([0-9.]+)", said)
    assert float(level) <= EXPOSURE


@pytest.mark.parametrize("which", UNITS)
def test_unit_lets_tls_work(which: str) -> None:
    """The unit does not forbid memory that is written and run, which callbacks from OpenSSL are made in."""
    assert "MemoryDenyWriteExecute=" not in UNITS[which][1]


def test_command_of_the_unit(services: Services, tmp_path: Path) -> None:
    """The unit's command line, with the page's INI file, runs a manager until it is told to end."""
    [line] = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    folder = tmp_path / "etc"
    folder.mkdir()
    log = tmp_path / "tef-manager.log"
    host, port = services.etcd
    write_ini(folder / "tef-manager.ini", services.amqp_url, folder, f"{host}:{port}", log)
    database = {**services.database, "username": services.database["user"]}
    keys = "".join(
        f"{key}: '{database[key]}'\n" for key in ("host", "port", "username", "password", "dbname")
    )
    (folder / "database_prod.yml").write_text(keys)
    command = line.replace(TWISTD, str(Path(sys.executable).with_name("twistd"))).replace(
        "/etc/tef-manager", str(folder)
    )
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
    environment = {**kept, "PYTHONPATH": f"{plugin_folder(tmp_path)}:{ROOT}"}
    process = subprocess.Popen(shlex.split(command), cwd=tmp_path, env=environment)
    try:
        until(log.exists, "the log")
        Log(log).wait("BROKER_CONNECTED|consumer|")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert log.stat().st_mode & 0o777 == 0o640


def write_ini(path: Path, amqp_url: str, folder: Path, etcd: str, log: Path) -> None:
    """Write the INI file of the page, with these values and a name prefix of its own."""
    blocks = section(PAGE, "As a service, by hand")
    [text] = [each.text for each in blocks if each.kind == "ini" and not each.where]
    places = {"amqp-url": amqp_url, "db-config": folder, "etcd-host": etcd, "log-file": log}
    login = {"amqp-user": "guest", "amqp-password": "guest"}
    for key, value in {**places, **login}.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, key
    path.write_text(f"{text}name-prefix = {fresh('install')}\n")
