"""Writes everything that is logged in the process, line by line."""

from __future__ import annotations

import logging
import sys
import threading
from time import time as now
from typing import Any

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsText,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.config.secrets import KNOWN
from tefmanager.logfile.emit import MORE
from tefmanager.logfile.forms import Form
from tefmanager.logfile.outputs import Output
from tefmanager.protocol.catalogue import LoggedEvent

_log = Logger("python")

_PYTHON = {
    LogLevel.debug: logging.DEBUG,
    LogLevel.info: logging.INFO,
    LogLevel.warn: logging.WARNING,
    LogLevel.error: logging.ERROR,
    LogLevel.critical: logging.CRITICAL,
}
"""The levels of Python's logging."""

_RANKS = {level: rank for rank, level in enumerate(LogLevel.iterconstants())}


def level_of(event: LogEvent) -> Any:
    """Return an event's level; one that was published without a level is information."""
    return event.get("log_level") or LogLevel.info


def line_of(form: Form, event: LogEvent) -> str:
    """Return an event as one line."""
    time, level = event.get("log_time") or now(), level_of(event).name
    line = event.get("line")
    if isinstance(line, LoggedEvent):
        return form.line(time, level, line)
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return form.other(time, level, str(event.get("log_namespace", "-")), KNOWN.hide(text.strip("\n")))


@implementer(ILogObserver)
class LogObserver:
    """Writes each event of at least a certain level as one line.

    Args:
        output: where lines go.
        form: formats them.
        level: name of the least important level that is written.
    """

    def __init__(self, output: Output, form: Form, level: str) -> None:
        self.output = output
        self._form = form
        self._least = _RANKS[LogLevel.lookupByName(level)]
        self._lines: list[str] = []

    def change_level(self, level: str) -> None:
        """Change the level from now on, also for Python's logging."""
        self._least = _RANKS[LogLevel.lookupByName(level)]
        logging.getLogger().setLevel(_PYTHON[LogLevel.lookupByName(level)])

    def __call__(self, event: LogEvent) -> None:
        """Write an event. One which says that more follow is written together with them."""
        with self.output.lock:
            if _RANKS[level_of(event)] >= self._least:
                self._lines.append(line_of(self._form, event))
            if self._lines and not event.get(MORE):
                lines, self._lines = self._lines, []
                self.output.write(("\n".join(lines) + "\n").encode())


def take_in_everything(level: str) -> None:
    """Turn Python's own log records and warnings into events, each on one line."""
    root = logging.getLogger()
    root.addHandler(_Forwarder())
    root.setLevel(_PYTHON[LogLevel.lookupByName(level)])
    sys.excepthook = lambda kind, error, trace: _complain("an exception ended the program", error)
    threading.excepthook = lambda args: _complain("an exception ended a thread", args.exc_value)
    sys.unraisablehook = lambda args: _complain(args.err_msg or "an exception was ignored", args.exc_value)


class _Forwarder(logging.Handler):
    """Publishes the records of Python's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Publish one record."""
        failure = {}
        if record.exc_info and record.exc_info[1] is not None:
            failure = {"log_failure": _failure(record.exc_info[1])}
        globalLogPublisher(
            {
                "log_level": _level_of(record.levelno),
                "log_namespace": record.name,
                "log_format": "{message}",
                "log_time": record.created,
                "message": record.getMessage(),
                **failure,
            }
        )


def _level_of(number: int) -> object:
    return next((level for level in reversed(_PYTHON) if _PYTHON[level] <= number), LogLevel.debug)


def _complain(what: str, error: BaseException | None) -> None:
    if error is None:
        _log.critical("{what}", what=what)
    else:
        _log.failure("{what}", _failure(error), what=what)


def _failure(error: BaseException) -> Failure:
    return Failure(error, type(error), error.__traceback__)  # type: ignore[no-untyped-call]
