"""A leadership: the right to write, for as long as its session lasts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tefmanager.core.model.dead_copies import CopyRow, DeadMessage, Stored
from tefmanager.core.model.endings import Ending, SuiteEnds
from tefmanager.core.model.identity import Life
from tefmanager.core.model.values import (
    AttemptRow,
    Bodies,
    Changes,
    DeadRow,
    FinishedRow,
    Snapshot,
    Stretch,
    TaskRow,
)
from tefmanager.interfaces.store import MOST_ATTEMPTS, ILeadership, StoreLost
from tefmanager.store import rows
from tefmanager.store.queries import Query
from tefmanager.store.reader import Reader
from tefmanager.store.session import Row, Session
from tefmanager.store.shelves import Shelves
from tefmanager.support.lease import Lease

T = TypeVar("T")

PORTION = 5_000
"""How many rows are read at a time, so that the reactor is not blocked and memory stays bounded."""

BATCH_BYTES = 2**25
"""Bytes of bodies that one statement writes or reads, unless a single body is longer."""

PACK_BYTES = 2**26
"""Bytes that are sent to the server at once, unless a single statement is longer. The server takes 1 GiB at
most."""

MOST_COUNTED = 10_000
"""How many dead tasks are counted at most. More are reported as this many, because the page asks every
second."""

_SURVEY = 300.0
"""Seconds that counting all tasks may take. This is done once, before anything else."""

_LAST_WORD = 2.0
"""Seconds that releasing the lock may take; closing the session releases it anyway."""


@implementer(ILeadership)
class Leadership:
    """Implements `ILeadership` on one database session.

    A commit is one string of prepared statements in one round trip, which PostgreSQL runs as one
    transaction. (A small turn takes 0.7 ms in this way, and 1.4 ms with separate statements, begin and
    commit.) Only a turn of very many bytes is sent in several strings between begin and commit.

    The first statement is the fence: it counts the turn in the manager's row, and fails if the row's epoch
    or count is not what this leadership wrote, because another leadership has begun or the rows were
    restored from a dump. While nothing is committed, each ping checks the same. Statements that change or
    move tasks fail unless every row exists. Removing what does not exist (workers, pauses of suites,
    unresolved marks) is no error. Bodies are read last, also from history, so a task may finish in the
    commit that asks for its body. Very many bytes of bodies are read in several portions, all but the first
    after the commit.

    Args:
        session: holds the lock.
        queries: prepared in the session, by name.
        epoch, life: of this leadership; already written.
        turns: the row's count of turns.
        key: of the lock.
        lease: is renewed by each answer.
        ping: seconds between two questions if nothing else is asked.
        reader: reads from the same database; is closed at the end.
    """

    def __init__(
        self,
        session: Session,
        queries: Mapping[str, Query],
        epoch: int,
        turns: int,
        life: Life,
        key: int,
        lease: Lease,
        ping: float,
        reader: Reader,
    ) -> None:
        self.epoch = epoch
        self._turns = turns
        self.life = life
        self.reader = reader
        self._session = session
        session.lease = lease
        self._queries = queries
        self._key = key
        self._quote = session.quoter()
        session.keep_alive(ping, lambda: self._call("look", self.epoch, self._turns))
        self._shelves = Shelves(self._run, self._survey)

    def on_lost(self, tell: Callable[[StoreLost], None]) -> None:
        """See `ILeadership.on_lost`."""
        self._session.on_lost(tell)

    async def load(self, at_most: int | None = None) -> Snapshot:
        """See `ILeadership.load`."""
        [manager] = await self._run("load_manager")
        workers = await self._run("load_workers")
        paused = await self._run("load_paused")
        stops = await self._run("load_stops")
        if at_most is not None and await self._shelves.hold_more_than(at_most):
            snapshot = await self._shelves.load()
        else:
            with _no_collections():
                snapshot = Snapshot(tasks=tuple(await self._all("load_tasks", rows.task_row)))
        return replace(
            snapshot,
            manager=rows.manager_row(manager),
            workers=tuple(rows.worker_row(row) for row in workers),
            paused_suites=frozenset(guid for (guid,) in paused),
            stops=tuple(map(rows.stop_row, stops)),
            unresolved=tuple(await self._all("load_unresolved", rows.attempt_row)),
        )

    async def tasks(self, guids: Sequence[str]) -> Sequence[TaskRow]:
        """See `ILeadership.tasks`."""
        return await self._shelves.tasks(guids)

    async def heads(self, task_type: str, resources: Sequence[str], each: int) -> Sequence[TaskRow]:
        """See `ILeadership.heads`."""
        return await self._shelves.heads(task_type, resources, each)

    async def following(self, stretches: Sequence[Stretch]) -> Sequence[Sequence[TaskRow]]:
        """See `ILeadership.following`."""
        return await self._shelves.following(stretches)

    async def _all(self, query: str, read: Callable[[Row], T]) -> list[T]:
        """Read rows by id, in portions. The server finds the next portion while we process the last."""
        found: list[T] = []
        portion = await self._run(query, 0, PORTION)
        while portion:
            following = Deferred.fromCoroutine(self._run(query, portion[-1][0], PORTION))
            found.extend(map(read, portion))
            portion = await following
        return found

    async def commit(self, changes: Changes) -> Bodies:
        """See `ILeadership.commit`. Raises `StoreConflict` if the changes do not fit the rows."""
        wanted = sorted(set(changes.bodies))
        found = await self._write(_packed(self._statements(changes, wanted)))
        bodies: dict[int, bytes] = {}
        while wanted:
            bodies.update({id: bytes(body) for id, body in found})
            wanted = [id for id in wanted if id not in bodies]
            if wanted:
                found = await self._run("bodies", wanted, BATCH_BYTES)
        return bodies

    async def _write(self, packs: Iterator[bytes]) -> list[Row]:
        """Run all statements in one transaction; return the last one's rows."""
        first, second = next(packs), next(packs, None)
        if second is None:
            return await self._session.run(first)
        await self._session.run(b"begin;" + first)
        found = await self._session.run(second)
        for pack in packs:
            found = await self._session.run(pack)
        await self._session.run("commit")
        return found

    def _statements(self, changes: Changes, wanted: Sequence[int]) -> Iterator[bytes]:
        yield self._fence(changes)
        for batch in _batches(changes.accepted):
            yield self._call("accept_tasks", rows.accepted_json(batch, changes.properties))
        if changes.tasks:
            yield self._call("update_tasks", rows.changed_json(changes.tasks.values()))
        if changes.attempts:
            yield self._call("end_attempts", rows.as_json(changes.attempts))
        if changes.judged:
            yield self._call("judge_attempts", rows.judged_json(changes.judged))
        if changes.resolved:
            yield self._call("resolve_attempts", changes.resolved)
        if changes.finished:
            yield self._call("finish_tasks", rows.finished_json(changes.finished))
        if changes.copies:
            yield self._call("write_copies", rows.copies_json(changes.copies))
        yield from self._workers(changes)
        if wanted:
            yield self._call("bodies", wanted, BATCH_BYTES)

    def _workers(self, changes: Changes) -> Iterator[bytes]:
        if changes.workers:
            yield self._call("write_workers", rows.as_json(changes.workers.values()))
        if changes.left:
            yield self._call("remove_workers", changes.left)
        if changes.paused:
            yield self._call("pause_suites", changes.paused)
        if changes.readied:
            yield self._call("ready_suites", changes.readied)
        if changes.stops_forgotten:
            yield self._call("forget_stops", changes.stops_forgotten)
        if changes.stops:
            yield self._call("write_stops", rows.as_json(changes.stops.values()))

    def _fence(self, changes: Changes) -> bytes:
        # Statements run in the order in which they are created, so each knows how many precede it.
        before, self._turns = self._turns, self._turns + 1
        new = changes.manager
        if new is None:
            return self._call("turn", self.epoch, None, None, None, None, before, None)
        row = (new.state.value, new.task_ids, new.attempt_ids, new.state_since)
        return self._call("turn", self.epoch, *row, before, new.calendar)

    async def finished(self, guids: Sequence[str]) -> frozenset[str]:
        """See `ILeadership.finished`."""
        if not guids:
            return frozenset()
        return frozenset(guid for (guid,) in await self._run("finished", list(guids)))

    async def history(self, guids: Sequence[str]) -> Sequence[FinishedRow]:
        """See `ILeadership.history`."""
        if not guids:
            return []
        found = [rows.finished_row(row) for row in await self._run("load_history", list(guids))]
        return sorted(found, key=lambda finished: finished.row.spec.guid)

    async def suite_ends(self, suites: Sequence[str]) -> SuiteEnds:
        """See `ILeadership.suite_ends`."""
        ends: dict[str, dict[Ending, int]] = {suite: {} for suite in suites}
        for suite, ending, tasks in await self._run("suite_ends", list(ends)):
            ends[suite][rows.ENDINGS[ending]] = tasks
        return ends

    async def attempts(self, task_id: int) -> Sequence[AttemptRow]:
        """See `ILeadership.attempts`."""
        return [rows.attempt_row(row) for row in await self._run("load_attempts", task_id, MOST_ATTEMPTS)]

    async def dead(self, at_most: int) -> tuple[int, Sequence[DeadRow]]:
        """See `ILeadership.dead`."""
        found = await self._run("load_dead", at_most, MOST_COUNTED)
        return (int(found[0][-1]) if found else 0), [rows.dead_row(row) for row in found]

    async def message(self, task_id: int) -> Stored | None:
        """See `ILeadership.message`."""
        found = await self._run("message", task_id)
        return rows.stored_row(found[0]) if found else None

    async def dead_messages(self, guids: Sequence[str]) -> Sequence[DeadMessage]:
        """See `ILeadership.dead_messages`."""
        found = await self._run("dead_messages", list(guids), BATCH_BYTES)
        return [rows.dead_message_row(row) for row in found]

    async def copies(self, at_most: int) -> Sequence[CopyRow]:
        """See `ILeadership.copies`."""
        return [rows.copy_row(row) for row in await self._run("copies", at_most)]

    async def settle(self, guids: Sequence[str]) -> Sequence[str]:
        """See `ILeadership.settle`."""
        return sorted(guid for (guid,) in await self._fenced("settle", list(guids)))

    async def forget(self, before: float, at_most: int) -> int:
        """See `ILeadership.forget`."""
        [(count,)] = await self._fenced("forget", before, at_most)
        return int(count)

    async def _fenced(self, name: str, *values: object) -> list[Row]:
        """Run a writing statement in a transaction that fails if this leadership is over."""
        return await self._session.run(self._fence(Changes()) + b";" + self._call(name, *values))

    async def end(self) -> None:
        """See `ILeadership.end`."""
        self.reader.close()
        try:
            if not self._session.busy:
                await self._session.run(f"select pg_advisory_unlock({self._key})", _LAST_WORD)
        except StoreLost:
            pass  # the lock ended with the session
        finally:
            self._session.close()

    def _call(self, name: str, *values: object) -> bytes:
        return self._quote(self._queries[name].execute, values)

    async def _run(self, name: str, *values: object) -> list[Row]:
        return await self._session.run(self._call(name, *values))

    async def _survey(self) -> tuple[list[Row], list[Row]]:
        """Read all of a large table, without an index and without sorting."""
        settings = "enable_seqscan = on; set local enable_sort = off; set local statement_timeout = 0"
        await self._session.run(f"begin; set local {settings}")
        counts = await self._session.run(self._call("survey"), _SURVEY)
        others = await self._session.run(self._call("others"), _SURVEY)
        await self._session.run("commit")
        return counts, others


@contextmanager
def _no_collections() -> Iterator[None]:
    """Suspend the garbage collector's search for cycles; rows contain none.

    For a million rows it takes as long as reading them, and blocks the reactor for a second.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _batches(accepted: Sequence[tuple[TaskRow, bytes]]) -> Iterator[Sequence[tuple[TaskRow, bytes]]]:
    """Yield new tasks in portions of bounded size."""
    begin = size = 0
    for index, (_, body) in enumerate(accepted):
        if size and size + len(body) > BATCH_BYTES:
            yield accepted[begin:index]
            begin, size = index, 0
        size += len(body)
    if accepted:
        yield accepted[begin:]


def _packed(statements: Iterator[bytes]) -> Iterator[bytes]:
    """Join statements into strings of bounded size."""
    pack: list[bytes] = []
    size = 0
    for statement in statements:
        if pack and size + len(statement) > PACK_BYTES:
            yield b";".join(pack)
            pack, size = [], 0
        pack.append(statement)
        size += len(statement)
    yield b";".join(pack)
