"""A JUnit report of tasks, as Jenkins and GitLab read it: one test case for each task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from tefmanager.ctl.finishing import Ended

NO_SUITE = "tasks"
"""The name of the report's suite of tasks that have none."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_ELEMENTS = {"failed": "failure", "stopped": "skipped", "cancelled": "skipped"}
"""How a test case that did not pass is marked; all others have errors."""


def report(tasks: Iterable[Ended]) -> ElementTree[Element]:
    """Return the report; tasks are grouped by their suites."""
    suites: dict[str, list[Ended]] = {}
    for task in tasks:
        suites.setdefault(task.suite or NO_SUITE, []).append(task)
    root = Element("testsuites", name="tef")
    for name, members in suites.items():
        _suite(root, name, members)
    indent(root)
    return ElementTree(root)


def _suite(root: Element, name: str, tasks: Sequence[Ended]) -> None:
    suite = SubElement(root, "testsuite", name=_xml(name), tests=str(len(tasks)))
    for task in tasks:
        _case(suite, task)
    for attribute, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{element}"))))
    suite.set("time", f"{sum(task.seconds or 0.0 for task in tasks):.3f}")
    began = [task.received for task in tasks if task.received is not None]
    if began:
        suite.set("timestamp", datetime.fromtimestamp(min(began), UTC).isoformat(timespec="seconds"))


def _case(suite: Element, task: Ended) -> None:
    names = {"classname": _xml(task.task_type or "task"), "name": _xml(task.guid)}
    case = SubElement(suite, "testcase", {**names, "time": f"{task.seconds or 0.0:.3f}"})
    told = {"worker": task.worker, "attempts": None if task.attempts is None else str(task.attempts)}
    if any(told.values()):
        properties = SubElement(case, "properties")
        for name, value in told.items():
            if value is not None:
                SubElement(properties, "property", name=name, value=_xml(value))
    if task.bad:
        message = _xml(task.message or task.word)
        SubElement(case, _ELEMENTS.get(task.word, "error"), message=message, type=task.word).text = message
    elif task.message:
        SubElement(case, "system-out").text = _xml(task.message)


def _xml(text: str) -> str:
    """Return a text without the characters that XML does not allow."""
    return _NOT_XML.sub("\ufffd", text)
