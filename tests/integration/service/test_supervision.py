"""The daemon under a supervisor: what systemd hears of it, and its configuration read again as it runs."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import PATIENCE, Daemon, running
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.services import Services


class Systemd:
    """Listens as systemd does."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(PATIENCE)

    def wait(self, start: str) -> str:
        """Wait until something is said that begins with this."""
        while True:
            said = self._socket.recv(4096).decode()
            if said.startswith(start):
                return said

    def forget(self) -> None:
        """Leave out what was said until now."""
        while select.select([self._socket], [], [], 0.0)[0]:
            self._socket.recv(4096)

    def is_silent_for(self, seconds: float) -> bool:
        """Tell whether nothing is said for so long."""
        return not select.select([self._socket], [], [], seconds)[0]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """One of a test's own."""
    systemd = Systemd(tmp_path)
    yield systemd
    systemd.close()


def supervised(services: Services, folder: Path, name: str, systemd: Systemd, *options: str) -> Daemon:
    """Return a daemon that systemd has started; each has an HTTP address of its own."""
    variables = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "2000000"}
    return Daemon(services, folder, name, "--http=", *options, variables=variables)


def test_life(services: Services, tmp_path: Path, systemd: Systemd) -> None:
    """It is ready when it leads, then tells how it stands, that it lives, and in the end that it stops."""
    daemon = supervised(services, tmp_path / "d", fresh("life"), systemd)
    with running(daemon):
        assert systemd.wait("READY=1") == f"READY=1\nMAINPID={daemon.pid}"
        assert systemd.wait("STATUS=active, running") == (
            "STATUS=active, running: 0 waiting, 0 in flight, 0 workers"
        )
        for _ in range(3):
            systemd.wait("WATCHDOG=1")
        Grid(services.amqp_url, daemon.prefix).task("t")
        systemd.wait("STATUS=active, running: 1 waiting, 0 in flight, 0 workers")
        daemon.terminate()
        systemd.wait("STOPPING=1")


def test_standby(services: Services, tmp_path: Path, systemd: Systemd) -> None:
    """One that stands by is ready as well, and says so."""
    name = fresh("standby")
    with running(Daemon(services, tmp_path / "active", name, "--http=")):
        daemon = supervised(services, tmp_path / "standby", name, systemd)
        daemon.start(ready=False)
        try:
            systemd.wait("READY=1")
            assert "another manager is active" in systemd.wait("STATUS=standby")
            daemon.stop()
        finally:
            daemon.end()


def test_a_stuck_process(services: Services, tmp_path: Path, systemd: Systemd) -> None:
    """The watchdog hears nothing of a process that is frozen, and hears of it again when it thaws."""
    with running(supervised(services, tmp_path / "d", fresh("stuck"), systemd)) as daemon:
        systemd.wait("WATCHDOG=1")
        os.kill(daemon.pid, signal.SIGSTOP)
        time.sleep(0.1)  # what it had said before has come
        systemd.forget()
        assert systemd.is_silent_for(2.0)
        os.kill(daemon.pid, signal.SIGCONT)
        systemd.wait("WATCHDOG=1")


def test_reload(services: Services, tmp_path: Path, systemd: Systemd) -> None:
    """A shorter time limit counts for a task that is at work, and what needs a restart is named."""
    file = tmp_path / "x.ini"
    file.write_text("[tef-manager]\ntime-limit = 600\nlog-level = warn\n")
    daemon = supervised(services, tmp_path / "d", fresh("reload"), systemd, f"--config={file}")
    daemon.start(ready=False)
    try:
        systemd.wait("READY=1")
        grid = Grid(services.amqp_url, daemon.prefix)
        worker = ReadmeWorker(grid, fresh("type"))
        worker.free()
        guid = grid.task(worker.worker_type)
        worker.begin(worker.expect())
        systemd.wait("STATUS=active, running: 0 waiting, 1 in flight, 1 workers")
        assert daemon.log.events() == []
        file.write_text("[tef-manager]\ntime-limit = 0.5\nmessage-limit = 5000\n")
        os.kill(daemon.pid, signal.SIGHUP)
        systemd.wait("RELOADING=1\nMONOTONIC_USEC=")
        systemd.wait("READY=1")
        assert daemon.log.wait("RELOADED|") == ["RELOADED|time-limit=0.5 log-level=info|message-limit"]
        daemon.log.wait(f"WORKER_STALLED|{worker.name}|{worker.worker_type}|{guid}")
        grid.close()
        daemon.stop()
    finally:
        daemon.end()


def test_reload_of_something_wrong(services: Services, tmp_path: Path, systemd: Systemd) -> None:
    """The manager goes on as before, and the log says what is wrong."""
    file = tmp_path / "x.ini"
    file.write_text("[tef-manager]\n")
    daemon = supervised(services, tmp_path / "d", fresh("wrong"), systemd, f"--config={file}")
    with running(daemon):
        file.write_text("[tef-manager]\npatience = soon\n")
        os.kill(daemon.pid, signal.SIGHUP)
        [line] = daemon.log.wait("RELOAD_FAILED|")
        assert line.startswith(f"RELOAD_FAILED|{file}: patience is 'soon', expected a number of seconds")
