"""What may change while the manager runs, and what waits for a restart."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tefmanager.config.config import Config, LogConfig, config_from
from tefmanager.config.http_settings import HttpConfig
from tefmanager.config.kinds import Threshold
from tefmanager.config.reload import LIVE, reloaded
from tefmanager.config.settings import SETTINGS
from tests.paths import ROOT

OLD = Config(env="prod", name_prefix="tef.prod", in_queue="tef.prod.manager")
DIFFERENT = {
    "worker-update-interval": "31",
    "missing-interval": "32",
    "time-limit": "33.5",
    "dispatch-timeout": "34",
    "release-grace": "35",
    "dispatch-interval": "36",
    "patience": "37",
    "max-attempts": "38",
    "unknown-resources": "wait",
    "history-days": "39",
    "log-level": "warn",
}
"""Other values than the defaults, of all that may change."""


def test_nothing_changed() -> None:
    """The same configuration is the same."""
    assert reloaded(OLD, replace(OLD)) == reloaded(OLD, OLD)
    assert (reloaded(OLD, OLD).changed, reloaded(OLD, OLD).pending) == ((), ())


@pytest.mark.parametrize("name", sorted(LIVE))
def test_what_may_change(name: str) -> None:
    """It is taken over, and told with its value."""
    old = config_from({"sandbox": 1}, {})
    new = config_from({"sandbox": 1, "missing-interval": "90", name: DIFFERENT[name]}, {})
    found = reloaded(old, new)
    assert found.config == new
    assert (found.changed, found.pending) == ((f"{name}={DIFFERENT[name]}",), ())


def test_what_follows_from_another_setting() -> None:
    """It changes with that one."""
    new = config_from({"sandbox": 1, "worker-update-interval": "10"}, {})
    found = reloaded(config_from({"sandbox": 1}, {}), new)
    assert found.changed == ("worker-update-interval=10", "missing-interval=30")


def test_what_waits_for_a_restart() -> None:
    """It stays as it was, and is told by name only, since it may be a secret."""
    new = replace(
        OLD,
        bindings=(("x", "y"),),
        database={"password": "secret"},
        silence_limit=20.0,
        patience=5.0,
        log=LogConfig(file="x", level=Threshold.DEBUG),
        http=HttpConfig(endpoint="tcp:1", asked=True, token=b"secret"),
    )
    found = reloaded(OLD, new)
    assert found.config == replace(OLD, patience=5.0, log=LogConfig(level=Threshold.DEBUG))
    assert found.changed == ("patience=5", "log-level=debug")
    assert found.pending == (
        "bind",
        "database_prod.yml",
        "silence-limit",
        "log-file",
        "http",
        "http-token-file",
    )


def test_the_page_says_what_may_change() -> None:
    """The reference lists just these settings."""
    page = (ROOT / "docs/configuration.md").read_text()
    listed = re.search(r"^These settings take effect at once: (.+?)\.\n", page, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`([a-z-]+)`", listed[1])) == LIVE
    assert set(SETTINGS) >= LIVE
