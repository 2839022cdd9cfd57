"""The judge finds what must not be, and lets pass what may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.judge import Attempt, Change, Facts, Run, judge

CLEAN = Facts(
    confirmed={"a", "b"},
    unconfirmed={"c"},
    history=[("a", "completed"), ("b", "dead")],
    dead=["b"],
    attempts=[Attempt("a", "w", "completed", 1.0, 3.0), Attempt("b", "v", "missing", 2.0, 4.0)],
    runs=[Run("a", "w", 1.0), Run("b", "v", 2.0)],
    changes=[Change(1, "r", 0, 0), Change(2, "r", 1, 1), Change(3, "r", 0, 0)],
    limits={"r": 1},
)

UNEQUAL = [Change(2, "r", 1, 0), Change(3, "r", 0, 0)]


def wrong(facts: Facts) -> list[str]:
    """Return what is said to be as it must not be."""
    return [count.what for count in judge(facts) if count.wrong]


def test_nothing_wrong() -> None:
    """A task that is dead, and one that was not confirmed, are not lost."""
    assert wrong(CLEAN) == []
    counts = {count.what: count.cases for count in judge(CLEAN)}
    assert counts["completed"] == ("a",)
    assert counts["dead, after all attempts"] == ("b",)
    assert counts["sent and not confirmed"] == ("c",)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        (replace(CLEAN, confirmed={"a", "b", "d"}), "lost"),
        (replace(CLEAN, confirmed={"a", "b", "d"}, waiting={"d"}), "still waiting"),
        (replace(CLEAN, history=[*CLEAN.history, ("a", "completed")]), "ended twice"),
        (replace(CLEAN, runs=CLEAN.runs[1:]), "completed and never run"),
        (replace(CLEAN, dead=[]), "dead, and not in the dead queue"),
        (replace(CLEAN, dead=["b", "x"]), "dead, and not in the dead queue"),
        (replace(CLEAN, limits={"r": 0}), "over limit"),
        (replace(CLEAN, needs={"a": ["r"], "b": ["r"]}), "in use over limit, by the manager's history"),
        (replace(CLEAN, confirmed={"a", "b", "d"}, unread={"c"}), "lost"),
        (replace(CLEAN, dead=[], unburied={"x"}), "dead, and not in the dead queue"),
        (
            replace(CLEAN, changes=[Change(2, "r", 1, 0), Change(3, "r", 0, 0)]),
            "counted otherwise than locked",
        ),
        (replace(CLEAN, changes=CLEAN.changes[:2]), "leaked"),
        (replace(CLEAN, errors=["Traceback"]), "errors in a manager's log"),
        (replace(CLEAN, exits=["manager-1"]), "ended by itself"),
    ],
)
def test_found(facts: Facts, what: str) -> None:
    """Each thing that must not be is found, and nothing else."""
    assert wrong(facts) == [what]


def test_what_a_broker_without_queues_costs() -> None:
    """What no manager had read, and copies of the dead; a task that was read is in history all the same."""
    facts = replace(CLEAN, confirmed={"a", "b", "d"}, dead=[], unread={"a", "d"}, unburied={"b"})
    assert wrong(facts) == []
    counts = {count.what: count.cases for count in judge(facts)}
    assert counts["lost with RabbitMQ's queues, never read by a manager"] == ("d",)


@pytest.mark.parametrize(
    "second",
    [
        Attempt("b", "v", "completed", 3.0, 4.0),
        Attempt("a", "w", "completed", 2.0, 4.0),
    ],
    ids=["afterwards", "a worker that came back"],
)
def test_a_resource_in_use_by_one(second: Attempt) -> None:
    """One after the other is no use over the limit, nor is a worker that comes back with its task."""
    first = Attempt("a", "w", "missing", 1.0, 3.0)
    needs = {"a": ["r"], "b": ["r"]}
    assert "in use over limit" not in " ".join(wrong(replace(CLEAN, attempts=[first, second], needs=needs)))


UNEXPLAINED = "run twice without a recorded reason"
AGAIN = "run again, taken back for a reason that history has"
TWICE = "run again, delivered twice by a broker that was killed"


def again(*runs: Run, attempts: list[Attempt], down: list[tuple[float, float]] | None = None) -> str:
    """Return what runs of one task are counted as."""
    facts = Facts({"a"}, history=[("a", "completed")], attempts=attempts, runs=list(runs))
    facts.broker_down = down or []
    (found,) = [
        count.what for count in judge(facts) if count.cases and count.what in (UNEXPLAINED, AGAIN, TWICE)
    ]
    return found


def test_run_again_for_a_reason() -> None:
    """History has an attempt for each run."""
    attempts = [Attempt("a", "w", "missing"), Attempt("a", "v", "completed")]
    assert again(Run("a", "w", 1.0), Run("a", "v", 2.0), attempts=attempts) == AGAIN


def test_run_by_two_without_a_reason() -> None:
    """One of the workers is not in history."""
    attempts = [Attempt("a", "v", "completed")]
    assert again(Run("a", "w", 1.0), Run("a", "v", 2.0), attempts=attempts) == UNEXPLAINED


def test_completed_twice_is_no_reason() -> None:
    """Two attempts of which both were completed should never have been."""
    attempts = [Attempt("a", "w", "completed"), Attempt("a", "v", "completed")]
    assert again(Run("a", "w", 1.0), Run("a", "v", 2.0), attempts=attempts) == UNEXPLAINED


def test_one_worker_twice_by_one_attempt() -> None:
    """The broker may do that when it is killed, or says so; else there is no reason."""
    runs = [Run("a", "w", 100.0), Run("a", "w", 105.0)]
    attempts = [Attempt("a", "w", "completed")]
    assert again(*runs, attempts=attempts) == UNEXPLAINED
    assert again(*runs, attempts=attempts, down=[(50.0, 60.0)]) == UNEXPLAINED
    assert again(*runs, attempts=attempts, down=[(101.0, 104.0)]) == TWICE
    marked = replace(runs[1], redelivered=True)
    assert again(runs[0], marked, attempts=attempts) == TWICE
