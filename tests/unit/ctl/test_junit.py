"""The JUnit report of tasks: what Jenkins and GitLab read."""

from __future__ import annotations

import io
from xml.etree import ElementTree

from tefmanager.ctl.finishing import UNFINISHED, Ended
from tefmanager.ctl.junit import NO_SUITE, report


def written(*tasks: Ended) -> ElementTree.Element:
    """Return the report of tasks, read again."""
    file = io.BytesIO()
    report(tasks).write(file, encoding="utf-8", xml_declaration=True)
    return ElementTree.fromstring(file.getvalue())


def test_each_task_is_a_test_case() -> None:
    """With its type, guid, time, worker and attempts, in the suite that it belongs to."""
    done = Ended("A", "completed", "passed", None, "echo", "s", 1795479544.0, 2, "w", 1.5)
    root = written(done, Ended("B", "completed", "unknown", None, "echo"))
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"s", NO_SUITE}
    [case] = suites["s"]
    assert (case.get("classname"), case.get("name"), case.get("time")) == ("echo", "A", "1.500")
    properties = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert properties == {"worker": "w", "attempts": "2"}
    assert [child.tag for child in case] == ["properties"]
    assert suites["s"].get("timestamp") == "2026-11-24T00:19:04+00:00"


def test_how_each_end_is_marked() -> None:
    """A failed test is a failure; what was not judged is an error; what was not to run is skipped."""
    tasks = [
        Ended("A", "completed", "failed", "3 of 40"),
        Ended("B", "completed", "error", "no disk"),
        Ended("C", "dead"),
        Ended("D", UNFINISHED),
        Ended("E", "unknown"),
        Ended("F", "stopped"),
        Ended("G", "completed", "unknown"),
        Ended("H", "completed", "passed", "40 checks"),
    ]
    [suite] = written(*tasks)
    marks = {case.get("name"): [child.tag for child in case] for case in suite}
    assert marks == {
        "A": ["failure"],
        **{guid: ["error"] for guid in "BCDE"},
        "F": ["skipped"],
        "G": [],
        "H": ["system-out"],
    }
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["8", "1", "4", "1"]
    [failure] = suite.iter("failure")
    assert (failure.get("message"), failure.get("type"), failure.text) == ("3 of 40", "failed", "3 of 40")


def test_texts_that_xml_does_not_allow() -> None:
    """Control characters and halves of surrogates are replaced, everything else stays as it is."""
    [suite] = written(
        Ended('a\0\x1b<&"', "completed", "failed", "ü\ud800\ufffe\U0001f600\n]]>", suite="s\x07")
    )
    [case] = suite
    assert (suite.get("name"), case.get("name")) == ("s\ufffd", 'a\ufffd\ufffd<&"')
    assert case[0].text == "ü\ufffd\ufffd\U0001f600\n]]>"


def test_no_tasks() -> None:
    """The report is there all the same."""
    assert list(written()) == []
