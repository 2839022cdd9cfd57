"""How the process ends: with status 0 when it was told to; when it can't start, with one line and status 1.

twistd builds the service before it begins to log and before it becomes a daemon: its stderr is still the
caller's, and its log is not open yet. Any exception there ends in a traceback, `usage.UsageError` too.
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
    """End the process: ``line`` goes to stderr and to the log file, ours or the one of twistd's options.

    Where the log is standard output (``twistd -n`` without a file) stderr is enough. ``twistd`` is
    None where the options have no parent. Raises `SystemExit`: only for the time before the reactor runs.
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
    """Return what ends a process whose reactor runs: one line on stderr and in the log, exit status 1."""
    given_up = False

    def give_up(line: str) -> None:
        nonlocal given_up
        if given_up:
            return  # one reason is enough
        given_up = True
        message = f"tef-manager: {KNOWN.hide(line)}"
        Logger("tefmanager").critical("{message}", message=message)
        if sys.__stderr__ is not None:
            print(message, file=sys.__stderr__, flush=True)
        # twistd ends with status 0 whatever made the reactor stop, so the status is set when Python ends.
        atexit.register(os._exit, 1)
        reactor.callWhenRunning(reactor.stop)  # services start before the reactor runs

    return give_up


def end_well(reactor: Any) -> None:
    """Let SIGTERM stop the reactor and the process end with exit status 0, once the reactor runs.

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

    reactor.callWhenRunning(signal.signal, signal.SIGTERM, handle)


def on_hangup(reactor: Any, call: Callable[[], None]) -> None:
    """Let SIGHUP call something, in the reactor's thread."""
    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(call))


def _never(seconds: float, call: Callable[[], None]) -> None:
    """Take the place of a reactor that will not run."""


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
    """Return what a ``--logger`` or syslog gives, which may be of the kind before `twisted.logger`."""
    if ILogObserver.providedBy(observer):
        return observer
    return cast(ILogObserver, LegacyLogObserverWrapper(cast(Any, observer)))


def _tell(observer: ILogObserver, message: str) -> None:
    Logger("tefmanager", observer=observer).critical("{message}", message=message)
