"""The check that no error goes unnoticed in any test."""

from __future__ import annotations

import gc
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger, globalLogPublisher

from tests.conftest import LoggedErrors


def logged(act: Callable[[], object], *expected: type[BaseException]) -> list[str]:
    """Return what the check would complain of after an action."""
    errors = LoggedErrors()
    errors.expect(*expected)
    globalLogPublisher.addObserver(errors)
    try:
        act()
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(errors)
    return errors.unexpected()


def test_an_unhandled_error_in_a_deferred_is_seen(expected_errors: Callable[..., None]) -> None:
    """With its type and text."""
    expected_errors(ZeroDivisionError)
    [text] = logged(lambda: fail(ZeroDivisionError("lost")))
    assert "ZeroDivisionError: lost" in text


def test_a_forgotten_coroutine_that_fails_is_seen(expected_errors: Callable[..., None]) -> None:
    """A Deferred in a cycle included, which only the collector finds."""
    expected_errors(ZeroDivisionError)

    async def forgotten() -> None:
        raise ZeroDivisionError

    def act() -> None:
        cycle: list[object] = [Deferred.fromCoroutine(forgotten())]
        cycle.append(cycle)

    assert len(logged(act)) == 1


def test_expected_errors_pass_and_others_do_not(expected_errors: Callable[..., None]) -> None:
    """Only the declared types, whatever the level."""
    expected_errors(ZeroDivisionError, KeyError)

    def act() -> None:
        for error in (ZeroDivisionError("a"), KeyError("b")):
            try:
                raise error
            except Exception:
                Logger().failure("{what}", what="c")

    [text] = logged(act, ZeroDivisionError)
    assert "KeyError: 'b'" in text


def test_warnings_and_errors_that_are_only_text_pass() -> None:
    """A manager may log that something is wrong; only critical is a fault of the program."""

    def act() -> None:
        Logger().warn("w")
        Logger().error("e")

    assert logged(act) == []
