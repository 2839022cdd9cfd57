"""All that is logged in the process comes to the log, one event a line."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, globalLogPublisher
from twisted.python import log as legacy

from tefmanager.core.model.effects import Effect, Log, Publish
from tefmanager.engine.effector import Effector
from tefmanager.interfaces.amqp import Delivered
from tefmanager.interfaces.meter import NoMeter
from tefmanager.interfaces.policy import Queues
from tefmanager.logfile.emit import emit
from tefmanager.logfile.forms import TextForm
from tefmanager.logfile.observer import LogObserver, take_in_everything
from tefmanager.logfile.outputs import Output
from tefmanager.protocol import catalogue
from tests.unit.support.outages import Told


class Writes(Output):
    """Keeps what is written, without the times."""

    def __init__(self) -> None:
        super().__init__(-1, lambda seconds, call: None, lambda line: b"")
        self.all: list[list[str]] = []

    @property
    def lines(self) -> list[str]:
        return [line for lines in self.all for line in lines]

    def write(self, lines: bytes) -> None:
        assert lines.endswith(b"\n")
        self.all.append([line.split(" ", 1)[1] for line in lines.decode()[:-1].split("\n")])


@pytest.fixture
def written() -> Iterator[Writes]:
    """What is written of all that is logged."""
    output = Writes()
    observer = LogObserver(output, TextForm(), "info")
    globalLogPublisher.addObserver(observer)
    yield output
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All that Python logs by itself is taken in."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    take_in_everything("info")
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_lines_of_a_turn_are_one_write(written: Writes) -> None:
    """In their order, with levels."""
    emit(catalogue.DISPATCH("a", "b", "c"), catalogue.TASK_DEAD("a", "b", 5))
    emit(catalogue.WORKER_OFFLINE("w"))
    assert written.all == [
        ["info DISPATCH|a|b|c", "error TASK_DEAD|a|b|5"],
        ["info CONTROL_SUCCESS|WORKER_OFFLINE|w"],
    ]


def test_no_line_is_no_write(written: Writes) -> None:
    """A turn without events costs nothing."""
    emit()
    assert written.all == []


def test_other_observers_see_the_lines_too() -> None:
    """With what they need to write them as they like."""
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(seen.append)  # type: ignore[arg-type]
    try:
        emit(catalogue.DISPATCH("a", "b", "c"))
    finally:
        globalLogPublisher.removeObserver(seen.append)  # type: ignore[arg-type]
    [event] = seen
    assert event["log_format"].format(**event) == "DISPATCH|a|b|c"


def test_lines_below_the_level_are_left_out(written: Writes) -> None:
    """Also when they are the last of several that are written together."""
    observer = LogObserver(quiet := Writes(), TextForm(), "error")
    globalLogPublisher.addObserver(observer)
    try:
        emit(catalogue.TASK_DEAD("a", "b", 5), catalogue.DISPATCH("a", "b", "c"))
        emit(catalogue.DISPATCH("a", "b", "c"))
    finally:
        globalLogPublisher.removeObserver(observer)
    assert quiet.lines == ["error TASK_DEAD|a|b|5"]
    assert len(written.lines) == 3


def test_what_twisted_logs(written: Writes) -> None:
    """Old and new ways, with the origin; braces in a text of others do no harm."""
    Logger("a.b").warn("{what}", what="{x}")
    legacy.msg("old\nway")
    Logger("a.b").debug("not this")
    assert written.lines == ["warn [a.b] {x}", r"info [log_legacy] old\nway"]


def test_an_event_without_level_and_time(written: Writes) -> None:
    """It is information of now."""
    globalLogPublisher({"log_format": "x"})
    assert written.lines == ["info [-] x"]


def raised() -> ZeroDivisionError:
    """Return an exception that was raised somewhere."""
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        return error


def test_a_traceback_is_one_line(written: Writes, expected_errors: Callable[..., None]) -> None:
    """From what was going on to what happened."""
    expected_errors(ZeroDivisionError)
    try:
        raise raised()
    except ZeroDivisionError:
        Logger("a.b").failure("while {doing}", doing="it")
    [line] = written.lines
    assert line.startswith(r"critical [a.b] while it\nTraceback (most recent call last):\n")
    assert line.endswith("ZeroDivisionError: division by zero")


def test_an_error_that_nobody_handled(written: Writes, expected_errors: Callable[..., None]) -> None:
    """What Twisted says of a Deferred has its traceback in one line."""
    expected_errors(ZeroDivisionError)

    async def forgotten() -> None:
        raise raised()

    Deferred.fromCoroutine(forgotten())
    gc.collect()
    heading, line = written.lines
    assert heading == "critical [twisted.internet.defer] Unhandled error in Deferred:"
    assert line.startswith(r"critical [twisted.internet.defer] Traceback (most recent call last):\n")
    assert line.endswith("ZeroDivisionError: division by zero")


@pytest.mark.usefixtures("everything")
def test_what_python_logs(written: Writes, expected_errors: Callable[..., None]) -> None:
    """By its own module, with the exception, in one line."""
    expected_errors(ZeroDivisionError)
    logging.getLogger("lib").warning("%s|%d", "a\nb", 1)
    logging.getLogger("lib").debug("not this")
    logging.getLogger("lib").log(35, "in between")
    logging.getLogger("lib").error("failed", exc_info=raised())
    assert written.lines[:2] == [r"warn [lib] a\nb\x7c1", "warn [lib] in between"]
    assert written.lines[2].startswith(r"error [lib] failed\nTraceback")
    assert written.lines[2].endswith("ZeroDivisionError: division by zero")


@pytest.mark.usefixtures("everything")
def test_what_python_would_print(written: Writes, expected_errors: Callable[..., None]) -> None:
    """An exception in a thread, or where none can be raised, is a line as well."""
    expected_errors(ZeroDivisionError)

    class Broken:
        def __del__(self) -> None:
            raise raised()

    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    Broken()
    sys.excepthook(ZeroDivisionError, raised(), None)
    starts = [line.split(r"\n")[0] for line in written.lines]
    assert starts[0] == "critical [python] an exception ended a thread"
    assert starts[1].startswith("critical [python] ")
    assert starts[2] == "critical [python] an exception ended the program"


@pytest.mark.usefixtures("everything")
def test_threads_do_not_mix_their_lines(written: Writes) -> None:
    """What several log at a time comes out whole."""

    def log() -> None:
        for _ in range(200):
            Logger("t").info("a b c")

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written.lines == ["info [t] a b c"] * 800


def test_warnings_of_libraries(written: Writes) -> None:
    """They come as twistd passes them on."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        legacy.showwarning("old", DeprecationWarning, "x.py", 1)
    [line] = written.lines
    assert line.startswith("warn [twisted.logger._global] x.py:1:")


# --- before anything can be seen outside ---


class Publisher:
    """Notes what the log holds when a message leaves."""

    def __init__(self, written: Writes) -> None:
        self._written = written
        self.seen: list[list[str]] = []

    async def dispatch(self, address: str, message: object, tell: object) -> Delivered:
        self.seen.append(list(self._written.lines))
        return Delivered.CONFIRMED

    def announce(self, key: str, body: object) -> None:
        self.seen.append(list(self._written.lines))


def test_a_turn_is_in_the_log_before_its_effects_begin(written: Writes) -> None:
    """Wherever its lines stand among them: who is killed then has logged what others can see."""
    publisher = Publisher(written)
    effector = Effector(
        Clock(),
        publisher,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        Queues(b"", b"", b""),
        lambda event: None,
        None,  # type: ignore[arg-type]
        lambda failure: failure.raiseException(),
        lambda: None,
        NoMeter(),
        Told().outages,
    )
    effects: list[Effect] = [
        Log(catalogue.DISPATCH("a", "1", "w")),
        Publish(1, 1, "queue", 600.0),
        Log(catalogue.DISPATCH("a", "2", "w")),
    ]
    effector.carry_out(effects, {1: b""})
    assert publisher.seen == [["info DISPATCH|a|1|w", "info DISPATCH|a|2|w"]] * 3
    assert len(written.all) == 1
