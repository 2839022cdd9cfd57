"""What systemd hears, and when the configuration that is read again counts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tefmanager.config.config import Config, ConfigError
from tefmanager.service.reloader import Reloader
from tefmanager.service.supervised import Supervised
from tefmanager.service.systemd import Notifier
from tefmanager.status.view import Health, Readiness

CONFIG = Config(env="prod", name_prefix="tef.prod", in_queue="tef.prod.manager")


class Listener:
    """A socket such as systemd's."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def heard(self) -> list[str]:
        """Return what was said since the last time."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """One at ``notify`` in the test's folder."""
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.close()


@pytest.fixture
def notifier(tmp_path: Path, listener: Listener) -> Notifier:
    """One that is heard, and has to say every two seconds that it lives."""
    return Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})


@pytest.fixture
def logged_lines() -> Iterator[list[tuple[str, str]]]:
    """Level and text of all that is logged in the test."""
    found: list[tuple[str, str]] = []

    def observe(event: LogEvent) -> None:
        found.append((event["log_level"].name, formatEvent(event)))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield found
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


@dataclass
class Manager:
    """A manager as it is shown.

    Attributes:
        role, missing: what it is, and is short of.
        healthy: whether it makes progress.
        headline_: what it says of itself.
    """

    role: str = "starting"
    missing: dict[str, str] = field(default_factory=dict)
    healthy: bool = True
    headline_: str = "starting"

    def health(self) -> Health:
        return Health(self.healthy, 0.0)

    def readiness(self) -> Readiness:
        return Readiness(not self.missing, self.role, self.missing, "1")

    def headline(self) -> str:
        return self.headline_


def watched(notifier: Notifier, manager: Manager) -> Clock:
    """Let a manager be watched, and return the clock that this goes by."""
    clock = Clock()
    Supervised(clock, notifier, manager).startService()
    return clock


READY = f"READY=1\nMAINPID={os.getpid()}"


@pytest.mark.parametrize(
    ("role", "missing", "ready"),
    [
        ("starting", {"database": "away"}, False),
        ("active", {"consumer": "not connected yet"}, False),
        ("active", {"etcd": "away"}, True),
        ("active", {}, True),
        ("standby", {"publisher": "away"}, True),
    ],
)
def test_ready(
    listener: Listener, notifier: Notifier, role: str, missing: dict[str, str], ready: bool
) -> None:
    """It is when it consumes or stands by, and says so once."""
    watched(notifier, Manager(role, missing)).pump([0.5] * 4)
    assert listener.heard().count(READY) == ready


def test_status(listener: Listener, notifier: Notifier) -> None:
    """It is said when it is another one, at most once a second, and is one line."""
    notifier.watchdog = None
    manager = Manager()
    clock = watched(notifier, manager)
    for text in ("a", "b", "b", "c\nREADY=1"):
        manager.headline_ = text
        clock.advance(0.5)
    assert listener.heard() == ["STATUS=starting", "STATUS=b", "STATUS=c\\nREADY=1"]


def test_watchdog(listener: Listener, notifier: Notifier) -> None:
    """It hears of progress several times within its time, and nothing while a turn does not end."""
    manager = Manager()
    clock = watched(notifier, manager)
    clock.pump([0.1] * 20)
    assert listener.heard().count("WATCHDOG=1") == 5
    manager.healthy = False
    clock.pump([0.1] * 20)
    assert listener.heard() == []
    manager.healthy = True
    clock.advance(0.5)
    assert listener.heard() == ["WATCHDOG=1"]


def test_stopping(listener: Listener, notifier: Notifier) -> None:
    """It is told, and nothing after it."""
    clock = Clock()
    service = Supervised(clock, notifier, Manager("standby"))
    service.startService()
    service.stopService()
    clock.pump([1.0] * 3)
    assert listener.heard()[-1] == "STOPPING=1\nSTATUS=stopping"


def test_somebody_elses_watchdog() -> None:
    """The variables of a parent do not count for a child."""
    assert Notifier.of({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier.of({"WATCHDOG_USEC": "5", "WATCHDOG_PID": str(os.getpid())}).watchdog == 5e-6


def test_an_abstract_address(tmp_path: Path) -> None:
    """One that begins with @ is no file."""
    listener = Listener(f"\0{tmp_path}")
    Notifier(f"@{tmp_path}").tell_ready()
    assert listener.heard() == [READY]
    listener.close()


def test_without_systemd() -> None:
    """Nobody is told anything, and nothing fails."""
    nobody = Notifier.of({})
    assert not nobody
    watched(nobody, Manager("active")).pump([1.0] * 3)


def test_a_socket_that_is_gone(tmp_path: Path, logged_lines: list[tuple[str, str]]) -> None:
    """It is logged once, and the manager goes on."""
    notifier = Notifier(str(tmp_path / "nothing"))
    for status in "ab":
        notifier.tell_status(status)
    assert [level for level, text in logged_lines if "systemd can't be notified of STATUS=" in text] == [
        "warn"
    ]


# --- reload ---


def test_reload(listener: Listener, notifier: Notifier, logged_lines: list[tuple[str, str]]) -> None:
    """What may change is handed on; systemd hears of begin and end, and the log of what there is."""
    new = replace(CONFIG, patience=5.0, env="test")
    reloader = Reloader(lambda: new, CONFIG, notifier)
    given: list[Config] = []
    reloader.follow(given.append)
    notifier.tell_ready()
    reloader.reload()
    reloader.reload()
    assert given == [replace(CONFIG, patience=5.0)] * 2
    assert [text for _, text in logged_lines] == ["RELOADED|patience=5|env", "RELOADED||env"]
    _, begin, end, *_ = listener.heard()
    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert end == "READY=1"


def test_reload_before_ready(listener: Listener, notifier: Notifier) -> None:
    """A manager that still starts does as it is told, and does not become ready by that."""
    Reloader(lambda: CONFIG, CONFIG, notifier).reload()
    assert listener.heard() == []


def test_reload_of_something_wrong(
    listener: Listener, notifier: Notifier, logged_lines: list[tuple[str, str]]
) -> None:
    """All stays as it was, the log says why, and systemd hears that it is over."""

    def wrong() -> Config:
        raise ConfigError(["patience is 'x', expected seconds"])

    reloader = Reloader(wrong, CONFIG, notifier)
    given: list[Config] = []
    reloader.follow(given.append)
    notifier.tell_ready()
    reloader.reload()
    assert given == []
    assert logged_lines == [("error", "RELOAD_FAILED|patience is 'x', expected seconds")]
    assert listener.heard()[-1] == "READY=1"
