"""Table prefixes and lock keys."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.store.names import (
    LONGEST_NAME,
    LONGEST_PREFIX,
    checked_prefix,
    lock_key,
    lock_name_for,
    table_prefix_for,
)

ENVIRONMENTS = ["dev", "test", "prod"]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_default_prefix(env: str) -> None:
    """The environment's own name prefix gives the tables that the documentation names."""
    assert table_prefix_for(env, f"tef.{env}") == f"tefmanager_{env}_"


def test_another_prefix_can_be_read_and_is_unique() -> None:
    """Names that look alike without their special characters have tables of their own."""
    first, second = table_prefix_for("dev", "Grid.two"), table_prefix_for("dev", "grid-two")
    assert first.startswith("tefmanager_dev_grid_two_")
    assert second.startswith("tefmanager_dev_grid_two_")
    assert first != second


def test_environments_do_not_share_tables() -> None:
    """Even if someone gives two of them the same name prefix."""
    assert len({table_prefix_for(env, "tef.dev") for env in ENVIRONMENTS}) == len(ENVIRONMENTS)


@given(st.sampled_from(ENVIRONMENTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=255))
def test_every_prefix_is_safe(env: str, name_prefix: str) -> None:
    """Whatever the name prefix, identifiers need no quoting and are not cut."""
    prefix = table_prefix_for(env, name_prefix)
    assert checked_prefix(prefix) == prefix
    assert len(prefix) <= LONGEST_PREFIX


@given(
    st.sampled_from(ENVIRONMENTS),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=255),
    st.from_regex(r"\A\w{1,60}\Z"),
)
def test_the_original_s_tables_are_never_ours(env: str, name_prefix: str, anything: str) -> None:
    """Its migrations name everything after ``tef_<env>_``, or after ``index_tef_<env>_`` for indexes."""
    own = table_prefix_for(env, name_prefix)
    for head in ("tef_", "index_tef_", "schema_migrations", "ar_internal_metadata"):
        assert not f"{head}{anything}".startswith(own)


@pytest.mark.parametrize("prefix", ["", "Tef_", "1_", "a-b", "a;drop", "ä_", "a" * 40, "a\n"])
def test_an_unsafe_prefix_is_refused(prefix: str) -> None:
    """It goes into SQL as it is."""
    with pytest.raises(ValueError, match="table prefix"):
        checked_prefix(prefix)


def test_the_longest_name_is_known() -> None:
    """No table, index, constraint or function has more characters than the prefix leaves room for."""
    names: set[str] = set()
    for file in (resources.files("tefmanager.store") / "upgrades").iterdir():
        names |= set(re.findall(r"\{t\}(\w+)", file.read_text("utf-8")))
    assert "tasks" in names
    assert max(map(len, names)) <= LONGEST_NAME


def test_the_lock_key_never_changes() -> None:
    """Two versions of the program must compete for the same lock."""
    assert lock_key(lock_name_for("dev", "tef.dev")) == -5239372351933846000
    assert lock_key("dev/other") != lock_key("dev/tef.dev")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_lock_keys_fit(name: str) -> None:
    """They are bigints."""
    assert -(2**63) <= lock_key(name) < 2**63
