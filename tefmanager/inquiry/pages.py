"""Describes pages of history."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from tefmanager.core.model.past import NOW, PastFilter, PastPage, Place
from tefmanager.inquiry.answers import TaskInfo
from tefmanager.inquiry.questions import GetHistory
from tefmanager.inquiry.task_answers import finished_task


class History(Struct, frozen=True):
    """A page of finished tasks, newest first.

    Attributes:
        items: the tasks, each with the attempt that completed it, or its last one.
        total: how many there are, if this page is all of them; otherwise None.
        next: the next page's ``after``; None if this is the last page. A page that has no task may have a
            next one.
    """

    items: tuple[TaskInfo, ...]
    total: int | None
    next: str | None


def wanted(question: GetHistory) -> PastFilter:
    """Return which tasks a question is about."""
    return PastFilter(
        suite=question.suite_guid,
        task_type=question.task_type,
        worker=question.worker,
        outcome=question.outcome,
        result=question.result,
        guid=question.guid,
        since=-inf if question.since is None else question.since,
        until=inf if question.until is None else question.until,
    )


def place(after: str | None) -> Place:
    """Return the place in history that ``after`` names: the end of the last page."""
    if after is None:
        return NOW
    at, id = after.split(":")
    return Place(float(at), int(id))


def history(page: PastPage, question: GetHistory) -> History:
    """Describe a page of history."""
    items = tuple(map(finished_task, page.tasks))
    whole = question.after is None and page.next is None
    following = None if page.next is None else f"{page.next.at:.6f}:{page.next.id}"
    return History(items, len(items) if whole else None, following)
