"""How the process ends: with status 0 after a stop; with one line and status 1 if it can't start.

twistd builds the service before it opens the log and before it becomes a daemon: stderr is still the
caller's. Any exception at that point ends in a traceback, even `usage.UsageError`.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

from twisted.logger import ILogObserver, LegacyLogObserverWrapper, Logger, textFileLogObserver

from tefmanager.config.config import LogConfig
from tefmanager.config.secrets import KNOWN
from tefmanager.logfile.wiring import file_log

log = Logger()


def refuse(line: str, twistd: Mapping[str, Any] | None, log: LogConfig | None = None) -> NoReturn:
    """End the process: write ``line`` to stderr and to the log file, ours or the one in twistd's options.

    If the log is standard output (``twistd -n`` without a file), it is written only to stderr. ``twistd``
    is None if the options have no parent. Raises `SystemExit`, so call it only before the reactor runs.
    """
    message = f"tef-manager: {KNOWN.hide(line)}"
    try:
        if log is not None and log.file:
            _tell(file_log(log, _never)[1], message)
        else:
            _log(message, twistd or {})
    except OSError as error:
        message += f" (and the log can't be written: {error.strerror})"
    raise SystemExit(message)


def exit_with(reactor: Any) -> Callable[[str], None]:
    """Return a function that ends a running process: one line on stderr and in the log, exit status 1."""
    given_up = False

    def give_up(line: str) -> None:
        nonlocal given_up
        if given_up:
            return  # report only the first reason
        given_up = True
        message = f"tef-manager: {KNOWN.hide(line)}"
        Logger("tefmanager").critical("{message}", message=message)
        if sys.__stderr__ is not None:
            print(message, file=sys.__stderr__, flush=True)
        # twistd exits with 0 whatever stopped the reactor, so the status is set when Python exits.
        atexit.register(os._exit, 1)
        reactor.callWhenRunning(reactor.stop)  # services start before the reactor runs

    return give_up


def end_well(reactor: Any) -> None:
    """Let SIGTERM stop the running reactor, and the process exit with status 0.

    Twisted's own handler does the same, but then ends the process by sending it the signal again.
    """
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            log.info("SIGTERM: stopping")
            reactor.stop()

    def handle(number: int, frame: object) -> None:
        reactor.callFromThread(stop)

    # Right after Twisted's own handler, and before anything that is called when the reactor runs: a signal
    # that comes between them would end the process with another status.
    reactor.addSystemEventTrigger("during", "startup", signal.signal, signal.SIGTERM, handle)


def on_hangup(reactor: Any, call: Callable[[], None]) -> None:
    """Let SIGHUP call a function in the reactor's thread."""
    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(call))


def _never(seconds: float, call: Callable[[], None]) -> None:
    """Do nothing: replaces the timer of a reactor that will not run."""


def _log(message: str, twistd: Mapping[str, Any]) -> None:
    file = twistd.get("logfile") or ("" if twistd.get("nodaemon", True) else "twistd.log")
    if twistd.get("logger"):
        _tell(_observer(twistd["logger"]()), message)
    elif twistd.get("syslog"):
        from twisted.python.syslog import SyslogObserver

        _tell(_observer(SyslogObserver(twistd["prefix"]).emit), message)  # type: ignore[no-untyped-call]
    elif file and file != "-":
        with Path(file).open("a", encoding="utf-8") as log:
            _tell(textFileLogObserver(log), message)


def _observer(observer: Callable[..., object]) -> ILogObserver:
    """Return the observer of a ``--logger`` or of syslog, which may be older than `twisted.logger`."""
    if ILogObserver.providedBy(observer):
        return observer
    return cast(ILogObserver, LegacyLogObserverWrapper(cast(Any, observer)))


def _tell(observer: ILogObserver, message: str) -> None:
    Logger("tefmanager", observer=observer).critical("{message}", message=message)
