"""How the process ends when it can't go on."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable

import pytest

from tefmanager.service import startup


class Reactor:
    """A reactor that does not run yet."""

    def __init__(self) -> None:
        self.running: list[Callable[[], None]] = []
        self.stopped = 0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.running.append(call)

    def stop(self) -> None:
        assert self.running, "it does not run"
        self.stopped += 1


class Log:
    """Keeps what is critical."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def critical(self, _: str, message: str) -> None:
        self._lines.append(message)


def test_given_up_before_the_reactor_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Services start before it does: one line, and it stops as soon as it runs, once."""
    ends: list[object] = []
    monkeypatch.setattr(atexit, "register", lambda *end: ends.append(end))
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    logged: list[str] = []
    monkeypatch.setattr(startup, "Logger", lambda _: Log(logged))
    reactor = Reactor()
    give_up = startup.exit_with(reactor)
    give_up("etcd not found")
    give_up("the sandbox failed")
    assert reactor.stopped == 0
    for call in reactor.running:
        call()
    assert (reactor.stopped, len(ends)) == (1, 1)
    assert logged == ["tef-manager: etcd not found"]
    assert capsys.readouterr().err == "tef-manager: etcd not found\n"
