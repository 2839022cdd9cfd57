"""Named SQL and upgrades, as they are read from their files."""

from __future__ import annotations

import re

import pytest

from tefmanager.store.queries import load_queries, parse
from tefmanager.store.schema import load_upgrades

TEXT = """-- name: first
-- Read one thing.
select a from {t}things where id = $1::bigint and b = $2::text or id = $1::bigint;

-- name: second
-- Remove everything.
delete from {t}things;
"""


def test_a_file_of_queries() -> None:
    """Names, purposes, tables and parameters are found."""
    first, second = parse(TEXT, "x_")
    assert (first.name, first.purpose, first.parameters) == ("first", "Read one thing.", 2)
    assert first.execute == "execute first(%s, %s)"
    assert second.prepare == "prepare second as delete from x_things"
    assert second.execute == "execute second"


@pytest.mark.parametrize("text", ["select 1;", "-- name: x\nselect 1;", "select 1;\n" + TEXT])
def test_sql_without_name_or_purpose_is_refused(text: str) -> None:
    """Every statement says what it is for."""
    with pytest.raises(ValueError, match="purpose"):
        list(parse(text, "x_"))


def test_all_queries_can_be_read() -> None:
    """Every table in them has the prefix, none is left with the placeholder."""
    queries = load_queries("x_")
    assert {"turn", "accept_tasks", "bodies", "forget"} <= set(queries)
    for query in queries.values():
        assert "{" not in query.sql
        assert "x_" in query.sql
        assert ";" not in query.sql


def test_every_parameter_says_its_type() -> None:
    """Without it the server would have to guess."""
    for query in load_queries("x_").values():
        assert not re.search(r"\$\d+(?!\d|::)", query.sql), query.name


def test_upgrades_are_in_order() -> None:
    """They count from 1."""
    assert [upgrade.number for upgrade in load_upgrades("x_")][:1] == [1]
