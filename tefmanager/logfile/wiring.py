"""Decides where this process logs, from our options and twistd's, and gives twistd its observer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from tefmanager.config.config import LogConfig
from tefmanager.config.kinds import LogFormat
from tefmanager.logfile.forms import Form, JournalForm, JsonForm, TextForm
from tefmanager.logfile.observer import LogObserver, take_in_everything
from tefmanager.logfile.outputs import FileOutput, Later, StreamOutput
from tefmanager.protocol.catalogue import LoggedEvent

_STDOUT = 1


class Logged(MultiService):
    """Runs a service, and lets twistd log to our observer.

    twistd looks for an observer among the components of the application, after adding the service to it.
    """

    def __init__(self, service: IService, observer: ILogObserver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observer = observer
        service.setServiceParent(self)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: Any) -> None:
        """Join the application."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)  # type: ignore[no-untyped-call]


def open_log(reactor: Any, config: LogConfig, twistd: Mapping[str, Any] | None) -> LogObserver | None:
    """Return what writes the log, or None if twistd does that by itself.

    ``twistd``: its options, or None without twistd. Raises OSError if the file can't be opened.
    """
    if not config.file and not logs_to_stdout(twistd):
        return None

    def later(seconds: float, call: Callable[[], None]) -> None:
        reactor.callFromThread(reactor.callLater, seconds, call)  # any thread may log

    if config.file:
        _, observer = file_log(config, later)
    else:
        form = form_for(config.format, journal=is_journal(_STDOUT, os.environ))
        stream = StreamOutput(_STDOUT, later, _renderer(form))
        observer = LogObserver(stream, form, config.level)
    reactor.addSystemEventTrigger("after", "shutdown", observer.output.catch_up)
    take_in_everything(config.level)
    return observer


def file_log(config: LogConfig, later: Later) -> tuple[FileOutput, LogObserver]:
    """Return what writes the log file; ``later`` calls a function after some seconds. Raises OSError."""
    form = form_for(config.format)
    output = FileOutput(Path(config.file).absolute(), later, _renderer(form))
    return output, LogObserver(output, form, config.level)


def logs_to_stdout(twistd: Mapping[str, Any] | None) -> bool:
    """Tell whether twistd's options send the log to standard output."""
    if twistd is None or twistd.get("logger") or twistd.get("syslog"):
        return False
    return bool(twistd.get("nodaemon")) and twistd.get("logfile") in (None, "", "-")


def is_journal(fd: int, environ: Mapping[str, str]) -> bool:
    """Tell whether a file descriptor leads to systemd's journal, according to ``JOURNAL_STREAM``."""
    found = os.fstat(fd)
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def form_for(wanted: LogFormat, *, journal: bool = False) -> Form:
    """Return the formatter for a format."""
    if wanted is LogFormat.JSON:
        return JournalForm(JsonForm()) if journal else JsonForm()
    return JournalForm(TextForm(bare=True)) if journal else TextForm()


def _renderer(form: Form) -> Callable[[LoggedEvent], bytes]:
    return lambda line: (form.line(time(), line.type.level, line) + "\n").encode()
