"""Fixtures for all tests: real services, unique names, and a check that no error goes unnoticed."""

from __future__ import annotations

import gc
import signal
import uuid
from collections.abc import Callable, Iterator

import pytest
import pytest_twisted
from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from tefmanager.sandbox import Sandbox
from tests.services import Services

# Jobs in a shell's background ignore SIGINT, and programs that tests stop with it would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends more on the machine than on the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Exclude all modules from the search for cycles after each test: they are most of the work."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """RabbitMQ, PostgreSQL and Etcd, started once, when a test first needs them."""
    from twisted.internet import reactor  # imported late: pytest-twisted must install the reactor first

    sandbox = Sandbox(reactor, fast=True)
    try:
        addresses = pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.start()))
        yield Services.of(sandbox, addresses)
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.stop()))


@pytest.fixture
def unique() -> str:
    """Twelve characters that no other test gets, for names of queues, tables and keys."""
    return uuid.uuid4().hex[:12]


_HEADING = "Unhandled error in Deferred:"
"""The text that Twisted logs just before the event with the failure."""


@implementer(ILogObserver)
class LoggedErrors:
    """Collects events of level critical, and those with a failure."""

    def __init__(self) -> None:
        self._seen: list[LogEvent] = []
        self._expected: tuple[type[BaseException], ...] = ()

    def __call__(self, event: LogEvent) -> None:
        critical = event.get("log_level") is LogLevel.critical or event.get("isError")
        if "log_failure" in event or (critical and event.get("log_format") != _HEADING):
            self._seen.append(event)

    def expect(self, *types: type[BaseException]) -> None:
        """Allow failures of these types in this test."""
        self._expected += types

    def unexpected(self) -> list[str]:
        """Return the texts of the events that the test did not expect."""
        return [_text(event) for event in self._seen if not self._is_expected(event)]

    def _is_expected(self, event: LogEvent) -> bool:
        failure = event.get("log_failure")
        return failure is not None and failure.check(*self._expected) is not None


def _text(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return formatEvent(event) + ("" if failure is None else "\n" + failure.getTraceback())


@pytest.fixture(autouse=True)
def _logged_errors() -> Iterator[LoggedErrors]:
    """Fail a test that logged an error, or left one in a Deferred without a handler."""
    errors = LoggedErrors()
    globalLogPublisher.addObserver(errors)
    try:
        yield errors
        gc.collect()  # a Deferred logs its unhandled error when it is collected
    finally:
        globalLogPublisher.removeObserver(errors)
    if unexpected := errors.unexpected():
        pytest.fail("errors were logged that nobody expected:\n" + "\n".join(unexpected), pytrace=False)


@pytest.fixture
def expected_errors(_logged_errors: LoggedErrors) -> Callable[..., None]:
    """Call it with types of exceptions that the code may log in this test."""
    return _logged_errors.expect
