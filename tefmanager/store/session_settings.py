"""The session's settings, set regardless of role, database and environment; and what a server lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tefmanager.interfaces.store import StoreLost
from tefmanager.store.session import Session

SETTINGS: Mapping[str, str] = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # The format of values. Not standard_conforming_strings: psycopg2 and libpq agree on it
    # when they connect, and quote accordingly.
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # Statements have a timeout of their own, see `Silence`.
    "lock_timeout": "0",
    "transaction_timeout": "0",
    # Every query here uses an index. A plan is kept for the whole session, so one that was made
    # while a table was small must not scan the whole table after it has grown.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_indexscan": "on",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_nestloop": "on",
    "enable_sort": "on",
    "jit": "off",
}
"""Settings of our sessions. Those that an older server does not know are left out."""

_LOOK = """
    select current_setting('server_encoding'), current_schema(), current_setting('search_path'),
        current_setting('synchronous_commit')
"""


async def configure(session: Session, more: Mapping[str, str]) -> Iterator[str]:
    """Apply all settings that we rely on; yield, for people, what is not as it should be.

    Raises `StoreLost` if the database can't be used.
    """
    # First, and in a statement of its own: a role's statement timeout may be very short.
    await session.run(f"set statement_timeout = {more['statement_timeout']}")
    [(encoding, schema, search_path, synchronous)] = await session.run(_LOOK)
    if encoding != "UTF8":
        raise StoreLost(f"the encoding of the database is {encoding}, expected UTF8")
    if schema is None or schema.startswith("pg_"):  # a system schema, or the session's temporary one
        raise StoreLost(
            f"search_path is {search_path or 'empty'}, which leads to no schema that is there and may be "
            "used; expected one for the tables (schema_search_path in the database's yml file)"
        )
    await session.run(_settings({**SETTINGS, **more}))
    # The system schema comes first, so that nobody's function can replace a system function.
    await session.run("select set_config('search_path', quote_ident(current_schema()), false)")
    return _weak(synchronous)


def _weak(synchronous: str) -> Iterator[str]:
    if synchronous == "off":
        yield "synchronous_commit is off for this role or database; this session sets it to on"


def _settings(settings: Mapping[str, str]) -> str:
    """Return the statement that applies the settings whose names the server knows."""
    values = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    return (
        # Committed data must survive; a weaker setting than "on" that still ensures this is kept.
        "select set_config('synchronous_commit', 'on', false)"
        " where current_setting('synchronous_commit') = 'off';"
        f"select set_config(name, value, false) from (values {values}) as wanted (name, value)"
        " where exists (select from pg_settings as known where known.name = wanted.name)"
    )
