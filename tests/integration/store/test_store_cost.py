"""What each statement touches in a real database: the same whether there is much beside it, or little.

Counted by the server in rows and blocks, not in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.endings import AttemptEnd, Finish, Outcome
from tefmanager.core.model.past import NOW, PastFilter
from tefmanager.core.model.values import (
    NOTHING,
    AttemptRow,
    StopRow,
    Stretch,
    TaskRow,
    TaskSpec,
    TaskState,
    WorkerRow,
    WorkerStatus,
)
from tefmanager.interfaces.store import MOST_ATTEMPTS
from tefmanager.protocol.verdicts import NO_VERDICT
from tefmanager.store import Store, reader, rows
from tefmanager.store.leadership import MOST_COUNTED, Leadership
from tefmanager.store.queries import Query, load_queries
from tefmanager.store.silence import Silence
from tests.contract.stores import RealTwin
from tests.services import Services

T = TypeVar("T")

DEADLINE = 120.0

LITTLE, MUCH = 1_000, 100_000
"""Rows in each table."""

SUITES = 10
"""Of waiting tasks, in each case; lanes become longer, not more."""

OLD = 1_000_000.0
"""Unix time before which three tasks ended, and dead ones that came again and wait."""

FILLED = (
    """
    insert into {t}history (
        id, guid, task_type, priority, resources, suite, received, attempts, outcome, finished_at, body,
        settled, again, attempt, worker
    )
    select
        n, 'ended-' || n, 'x', 1, array['db'], 'S' || n %% {suites}, now(), 1,
        case when n %% 50 = 0 then 'dead' else 'completed' end,
        case when n <= 3 then to_timestamp({old} - n) else now() - n * interval '1 s' end,
        'body', n > 1000, false, n, 'w' || n %% {suites}
    from generate_series(1, {count}) as n
    """,
    """
    insert into {t}history (
        id, guid, task_type, priority, resources, suite, received, attempts, outcome, finished_at, body,
        settled, again
    )
    select 10000000 + n, 'often', 'x', 1, '{{}}', null, now(), 1, 'completed', now(), 'body', false, false
    from generate_series(1, {count}) as n
    """,
    """
    insert into {t}history (
        id, guid, task_type, priority, resources, received, attempts, outcome, finished_at, body, again
    )
    select
        20000000 + n, 'waits-' || n, 'x', 1, '{{}}', now(), 1, 'dead', to_timestamp({old} - n), 'body', true
    from generate_series(1, {count}) as n
    """,
    """
    insert into {t}attempts (
        id, task_id, guid, number, worker, dispatched, ended, outcome, unresolved
    )
    select n, n, 'ended-' || n, 1, 'w', now(), now(), 'completed', n <= 100
    from generate_series(1, {count}) as n
    """,
    """
    insert into {t}attempts (
        id, task_id, guid, number, worker, dispatched, ended, outcome, unresolved
    )
    select {count} + n, {count} + 1, 'waits-1', n, 'w', now(), now(), 'missing', false
    from generate_series(1, {count}) as n
    """,
    """
    insert into {t}tasks (
        id, guid, task_type, priority, resources, suite, received, state, attempts, avoid, body
    )
    select
        {count} + n, 'waits-' || n, 'x', n %% 3,
        case n %% 2 when 0 then array['db'] else '{{}}'::text[] end,
        'S' || n %% {suites}, now(), 'waiting', 0, '{{}}', 'body'
    from generate_series(1, {count}) as n
    """,
    """
    insert into {t}suite_ends (guid, ending, tasks)
    select 'S' || n, 'passed', 1 from generate_series(0, {count}) as n
    """,
    "insert into {t}stopped_suites values ('S1', 1, '{{}}', 1, 0, true)",
)
"""Statements that fill the tables; ids of what waits are above those of what ended."""


def soon(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run it, and let it fail when it takes too long."""
    return Deferred.fromCoroutine(coroutine).addTimeout(DEADLINE, reactor)


class Filled:
    """A database with so many rows, and the session of a leader.

    The session is older than the rows: its plans must fit to tables that were empty when it began.
    """

    def __init__(self, services: Services, prefix: str, count: int) -> None:
        self.count = count
        self.twin = RealTwin(services.database, prefix)
        store = Store(reactor, services.database, prefix, prefix, silence=Silence(3600.0))
        self.leadership = cast(
            Leadership, pytest_twisted.blockon(soon(store.leadership(lambda text: None)))
        )
        for statement in FILLED:
            text = statement.format(t="{t}", count=count, suites=SUITES, old=int(OLD))
            self.twin.ask(text)
        self.twin.ask("vacuum analyze {t}tasks, {t}history, {t}attempts, {t}suite_ends")

    def close(self) -> None:
        """End the session and remove the tables."""
        pytest_twisted.blockon(soon(self.leadership.end()))
        self.twin.close()

    async def touched(self, name: str, values: tuple[object, ...]) -> dict[str, int]:
        """Return what a statement touches, by the server's own account; it is undone."""
        await self.leadership._session.run("begin")
        explain = b"explain (analyze, buffers, timing off, format json) "
        [(found,)] = await self.leadership._session.run(explain + self.leadership._call(name, *values))
        await self.leadership._session.run("rollback")
        plan = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
        nodes = list(_nodes(plan))
        return {
            "rows": sum(map(_rows, nodes)),
            "blocks": max(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in nodes),
            "whole tables": sum(node["Node Type"] == "Seq Scan" and _rows(node) > SMALL for node in nodes),
        }


SMALL = 50
"""Rows that may be read without an index."""


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Mapping[str, Any]) -> int:
    kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return int(sum(node.get(kind, 0) for kind in kinds) * node["Actual Loops"])


@pytest.fixture(scope="module")
def filled(services: Services) -> Iterator[tuple[Filled, Filled]]:
    """A database with little in it, and one with much."""
    made: list[Filled] = []
    try:
        made.extend(Filled(services, f"t_cost{count}_", count) for count in (LITTLE, MUCH))
        yield made[0], made[1]
    finally:
        for each in made:
            each.close()


def task(id: int, guid: str, **fields: Any) -> TaskRow:
    """Return the row of a task."""
    return replace(TaskRow(TaskSpec(id, guid, "x", 1.0, ("db",), "S1", None, 1.5)), **fields)


def attempt(id: int) -> AttemptRow:
    """Return the row of an attempt that ended."""
    return AttemptRow(id, 1, "ended-1", 1, "w", 2.0, None, 3.0, AttemptEnd.OFFLINE)


Case = Callable[[Filled], tuple[object, ...]]

LANE = Stretch("x", ("db",), "S2", NOTHING, 64)
DEEP = Stretch("x", ("db",), "S2", (-1.0, 10), 64)
WORKER = WorkerRow("w", "x", "w", WorkerStatus.IDLE, 1.0)

LOOKED_AT = 50
"""How many tasks in history one query looks at here: fewer than there are where there is little."""


def past(by: str, **wanted: Any) -> tuple[object, ...]:
    """Return the values for a page of history, found by an index."""
    filter = PastFilter(**wanted)
    return (*reader.filtered(filter), 0.0, *NOW, LOOKED_AT, 20, by)


CASES: dict[str, Case] = {
    # a turn
    "turn": lambda it: (it.leadership.epoch, None, None, None, None, it.leadership._turns, None),
    "look": lambda it: (it.leadership.epoch, it.leadership._turns),
    "accept_tasks": lambda it: (
        rows.accepted_json(
            [(task(10**9 + n, guid), b"{}") for n, guid in enumerate(("new", "ended-50"))], {}
        ),
    ),
    "update_tasks": lambda it: (
        rows.changed_json(
            [task(it.count + n, f"waits-{n}", state=TaskState.DEAD_LETTERING) for n in (1, 500, 1000)]
        ),
    ),
    "end_attempts": lambda it: (rows.as_json([attempt(10**9), attempt(10**9 + 1)]),),
    "judge_attempts": lambda it: (rows.judged_json(dict.fromkeys((1, 50, 10**9), NO_VERDICT)),),
    "resolve_attempts": lambda it: ([1, 50, it.count, 10**9],),
    "finish_tasks": lambda it: (
        rows.finished_json({it.count + n: Finish(Outcome.DEAD, 1.0, 1) for n in (1, 500, 1000)}),
    ),
    "write_copies": lambda it: (rows.copies_json({50: Copy.DUE, 100: None}),),
    "bodies": lambda it: ([1, it.count, it.count + 1, it.count + 500], 2**25),
    "write_workers": lambda it: (rows.as_json([WORKER]),),
    "remove_workers": lambda it: (["v", "w"],),
    "pause_suites": lambda it: (["S1", "S2"],),
    "ready_suites": lambda it: (["S1"],),
    "write_stops": lambda it: (rows.as_json([StopRow("S2", 5)]),),
    "forget_stops": lambda it: (["S1"],),
    # what is read before a turn
    "finished": lambda it: (["ended-1", "ended-1000", "often", "waits-1", "new"],),
    "load_guids": lambda it: (["waits-1", "waits-1000", "new"],),
    "load_heads": lambda it: ("x", ["db"], "", 500, 2),
    "load_following": lambda it: (rows.stretches_json([LANE, DEEP]),),
    "suite_ends": lambda it: (["S1", "S2", "new"],),
    # what people ask
    "load_history": lambda it: (["ended-1", "ended-1000", "often", "waits-1"],),
    "load_attempts": lambda it: (it.count - 1, MOST_ATTEMPTS),
    "load_dead": lambda it: (20, MOST_COUNTED),
    "message": lambda it: (50,),
    "dead_messages": lambda it: (["ended-50", "ended-51", "new"], 2**25),
    "copies": lambda it: (1000,),
    "settle": lambda it: (["ended-50", "ended-51", "new"],),
    "past": lambda it: past("time"),
    "past of a suite": lambda it: past("suite", suite="S2"),
    "past of a worker": lambda it: past("worker", worker="w2"),
    "past of guids": lambda it: past("guid", guid="often"),
    "past that does not fit": lambda it: past("time", task_type="?"),
    "past of a suite that does not fit": lambda it: past("suite", suite="S2", task_type="?"),
    "count_past_guids": lambda it: ("ended-", "ended.", LOOKED_AT),
    "load_past": lambda it: (list(range(1, 101)),),
    # what is tidied up
    "forget": lambda it: (OLD, 500),
    # how a leadership begins, but for reading what waits
    "begin_leadership": lambda it: (0,),
    "make_row": lambda it: (None,),
    "probe": lambda it: ("Ym9keQ==",),
    "load_manager": lambda it: (),
    "load_workers": lambda it: (),
    "load_paused": lambda it: (),
    "load_stops": lambda it: (),
    "load_unresolved": lambda it: (0, 5000),
    "count_tasks": lambda it: (100,),
    "load_tasks": lambda it: (it.count, 500),
    "load_named": lambda it: ([it.count + 1, it.count + 1000],),
}

WHOLE = {"survey", "others"}
"""Statements that read all that waits: once, as a leadership begins on more than memory takes."""


def test_no_statement_is_left_out() -> None:
    """Each that comes with the program is tried here, or named as one that reads all that waits."""
    assert {name.split()[0] for name in CASES} | WHOLE == set(load_queries("x_"))


@pytest.mark.parametrize("name", CASES)
@pytest_twisted.ensureDeferred
async def test_what_a_statement_touches(filled: tuple[Filled, Filled], name: str) -> None:
    """Behind a hundred times as many rows no more of them, and a level or two more of each index."""
    little, much = [await each.touched(name.split()[0], CASES[name](each)) for each in filled]
    assert little["whole tables"] == much["whole tables"] == 0
    assert much["rows"] <= little["rows"] * 1.1 + 3, (little, much)
    assert much["blocks"] <= little["blocks"] * 2 + 20, (little, much)


@pytest_twisted.ensureDeferred
async def test_attempts_without_end(filled: tuple[Filled, Filled]) -> None:
    """Of a task that is tried for ever the last attempts are read, and no others."""
    for each in filled:
        found = await each.touched("load_attempts", (each.count + 1, 10))
        assert found["rows"] <= 50, found
        assert found["blocks"] <= 50, found


@pytest_twisted.ensureDeferred
async def test_a_statement_that_reads_everything_is_seen(filled: tuple[Filled, Filled]) -> None:
    """What counts all of history touches more where there is more."""
    counts = []
    for each in filled:
        query = Query("all_of_it", "", f"select count(*) from {each.twin._prefix}history", 0)
        await each.leadership._session.run(query.prepare)
        each.leadership._queries = {**each.leadership._queries, query.name: query}
        counts.append(await each.touched("all_of_it", ()))
    little, much = counts
    assert much["rows"] > 50 * little["rows"]
    assert much["blocks"] > little["blocks"] * 2 + 20
