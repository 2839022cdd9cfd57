"""A daemon with its own log file, and twistd without any services."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.daemon import PATIENCE, Daemon, Log, plugin_folder, until
from tests.paths import ROOT
from tests.services import Services

TWISTD = shutil.which("twistd", path=sysconfig.get_path("scripts")) or "twistd"


class LoggedDaemon(Daemon):
    """A daemon that logs to a file.

    Attributes:
        file: its log.
    """

    def __init__(self, services: Services, folder: Path, name: str, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "tef.log"
        super().__init__(services, folder, name, f"--log-file={self.file}", *options)

    def start(self, *, ready: bool = True, variables: Mapping[str, str] | None = None) -> None:
        """Start it, and with ``ready`` wait until it is active."""
        super().start(ready=False, variables=variables)
        until(self.file.exists, "the log file")
        self._log = Log(self.file)
        if ready:
            self.wait_ready()

    @property
    def log(self) -> Log:
        """The file that had the log's name when the daemon was started."""
        return self._log

    def every_line(self) -> list[str]:
        """Return what it has logged to files with this name, and what it printed."""
        files = sorted(self.file.parent.glob(f"{self.file.name}*"))
        logged = [line for file in files for line in Log(file).lines]
        return super().every_line() + logged


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return variables with which a daemon starts, and waits for services that do not exist."""
    (folder / "database_dev.yml").write_text("database: tef\nhost: /nowhere\n")
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
    return {
        **kept,
        "PYTHONPATH": f"{plugin_folder(folder)}:{ROOT}",
        "TEF_AMQP_URL_DEV": "amqp://127.0.0.1:1",
        "TEF_MANAGER_DB_CONFIG": str(folder),
        **variables,
    }


def is_handled(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal."""
    [caught] = re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (number - 1) & 1)


@contextmanager
def twistd(folder: Path, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run twistd in a folder during a block; when asked to end, it must end with status 0."""
    variables = options.pop("variables", {})
    process = subprocess.Popen(
        [TWISTD, *arguments], cwd=folder, env=environment(folder, **variables), **options
    )
    try:
        yield process
        until(lambda: is_handled(process.pid, signal.SIGTERM), "the reactor")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
