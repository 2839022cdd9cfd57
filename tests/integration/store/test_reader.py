"""Reading for people who look, on a real PostgreSQL: over a session of its own, which may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tefmanager.core.model.endings import Finish, Outcome
from tefmanager.core.model.past import NOW, PastFilter, PastPage
from tefmanager.core.model.values import Changes
from tefmanager.interfaces.store import CantRead, StoreLost
from tefmanager.store import reader as reader_module
from tefmanager.store.leadership import Leadership
from tefmanager.store.reader import MOST_WAITING, Reader, span
from tests.contract.stores import RealTwin
from tests.integration.store.support import silent, soon, store, task, until
from tests.services import Services

TASKS = 10


@pytest.fixture
def leadership(services: Services, prefix: str, twin: RealTwin) -> Iterator[Leadership]:
    """A leadership with ten tasks in history, all sessions of which have a name of their own."""
    named = {**services.database, "application_name": f"app-{prefix}"}
    begun = pytest_twisted.blockon(soon(store(named, prefix).leadership(silent)))
    accepted = [(task(id), b"") for id in range(1, TASKS + 1)]
    finished = {id: Finish(Outcome.STOPPED, float(id)) for id in range(1, TASKS + 1)}
    pytest_twisted.blockon(soon(begun.commit(Changes(accepted=accepted, finished=finished))))
    yield begun
    pytest_twisted.blockon(soon(begun.end()))


def sessions(twin: RealTwin, prefix: str) -> list[int]:
    """Return the server's processes for the sessions of the leadership and its reader."""
    asked = "select pid from pg_stat_activity where application_name = %s"
    return [cast(int, pid) for (pid,) in twin.ask(asked, f"app-{prefix}")]


def ids(page: PastPage) -> list[int]:
    """Return the ids of a page's tasks."""
    return [each.row.spec.id for each in page.tasks]


async def whole(reader: Reader, wanted: PastFilter = PastFilter()) -> list[int]:  # noqa: B008
    """Return the ids of all wanted tasks, from pages of three."""
    found: list[int] = []
    page = await reader.past(wanted, 3, NOW)
    while page.next is not None:
        found += ids(page)
        page = await reader.past(wanted, 3, page.next)
    return found + ids(page)


@pytest_twisted.ensureDeferred
async def test_it_connects_when_it_is_asked(leadership: Leadership, twin: RealTwin, prefix: str) -> None:
    """One session as long as nobody asks, another one from the first question on, none after the end."""
    assert len(sessions(twin, prefix)) == 1
    for _ in range(3):
        assert len(await whole(leadership.reader)) == TASKS
        assert len(sessions(twin, prefix)) == 2
    await leadership.end()
    await until(lambda: sessions(twin, prefix) == [])
    with pytest.raises(CantRead, match="the leadership has ended"):
        await leadership.reader.past(PastFilter(), 1)
    await until(lambda: sessions(twin, prefix) == [])


@pytest_twisted.ensureDeferred
async def test_a_killed_session_is_replaced(leadership: Leadership, twin: RealTwin, prefix: str) -> None:
    """The leadership does not notice, and the next question is answered."""
    lost: list[StoreLost] = []
    leadership.on_lost(lost.append)
    await whole(leadership.reader)
    own = twin.backend(leadership)
    [other] = [pid for pid in sessions(twin, prefix) if pid != own]
    twin.ask("select pg_terminate_backend(%s, 5000)", other)
    await until(lambda: leadership.reader._session is None)
    assert len(await whole(leadership.reader)) == TASKS
    assert lost == []


@pytest_twisted.ensureDeferred
async def test_a_locked_table_holds_up_no_turn(leadership: Leadership, twin: RealTwin, prefix: str) -> None:
    """The question fails when its time is up; a turn that is committed meanwhile waits for nothing."""
    leadership.reader._settings = {**leadership.reader._settings, "statement_timeout": "1000"}
    await whole(leadership.reader)
    leadership.reader._leave()
    twin.ask("begin")
    twin.ask("lock table {t}attempts in access exclusive mode")
    asked = Deferred.fromCoroutine(leadership.reader.past(PastFilter(), 1))
    await soon(leadership.commit(Changes(accepted=[(task(100), b"")])))
    assert not asked.called
    with pytest.raises(CantRead, match="the database can't be read: the database cancelled a statement"):
        await asked
    twin.ask("rollback")
    assert len(await whole(leadership.reader)) == TASKS


@pytest_twisted.ensureDeferred
async def test_it_can_not_write(leadership: Leadership, prefix: str) -> None:
    """The server itself refuses."""
    await whole(leadership.reader)
    session = leadership.reader._session
    assert session is not None
    with pytest.raises(StoreLost, match="cannot execute DELETE in a read-only transaction"):
        await session.run(f"delete from {prefix}history")
    assert len(await whole(leadership.reader)) == TASKS


@pytest_twisted.ensureDeferred
async def test_pages_that_look_at_few_tasks(
    leadership: Leadership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page ends where it has looked at so many; all pages together leave nothing out."""
    monkeypatch.setattr(reader_module, "LOOKED_AT", 2)
    assert await whole(leadership.reader) == list(range(TASKS, 0, -1))
    page = await leadership.reader.past(PastFilter(until=2.0), 3)
    assert (ids(page), page.next) == ([1], None)
    page = await leadership.reader.past(PastFilter(task_type="?"), 3)
    assert page.tasks == ()
    assert page.next is not None
    assert page.next.id == TASKS - 1
    assert await whole(leadership.reader, PastFilter(task_type="?")) == []
    assert await whole(leadership.reader, PastFilter(guid="guid-1")) == [10, 1]
    assert await whole(leadership.reader, PastFilter(guid="guid-7")) == [7]


@pytest_twisted.ensureDeferred
async def test_many_questions_at_once(leadership: Leadership) -> None:
    """They are answered one after the other over one session; what would wait for too long is refused."""
    asked = [
        Deferred.fromCoroutine(leadership.reader.past(PastFilter(), 2)) for _ in range(MOST_WAITING + 1)
    ]
    with pytest.raises(CantRead, match="20 other questions wait for the database: ask later"):
        await leadership.reader.past(PastFilter(), 2)
    pages = await gatherResults(asked)
    assert [ids(page) for page in pages] == [[10, 9]] * (MOST_WAITING + 1)


@pytest_twisted.ensureDeferred
async def test_a_question_that_nobody_waits_for(leadership: Leadership) -> None:
    """Its session is dropped with it, and the next question gets another."""
    asked = Deferred.fromCoroutine(leadership.reader.past(PastFilter(), 2))
    asked.addErrback(lambda failure: None)
    asked.cancel()
    await whole(leadership.reader)
    again = Deferred.fromCoroutine(leadership.reader.past(PastFilter(), 2))
    again.addErrback(lambda failure: None)
    again.cancel()
    assert len(await whole(leadership.reader)) == TASKS


@pytest.mark.parametrize(
    ("beginning", "after"),
    [
        ("a", "b"),
        ("a\ud7ff", "a\ue000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff", "\U0010ffff" * 64),
    ],
)
def test_ranges_of_guids(beginning: str, after: str) -> None:
    """The range ends before the first text that does not begin so."""
    assert span(beginning) == (beginning, after)
