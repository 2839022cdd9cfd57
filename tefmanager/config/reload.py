"""Decides which settings may change while the manager runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from tefmanager.config import settings
from tefmanager.config.config import Config

LIVE = {
    setting.name
    for setting in (
        settings.WORKER_UPDATE_INTERVAL,
        settings.MISSING_INTERVAL,
        settings.TIME_LIMIT,
        settings.DISPATCH_TIMEOUT,
        settings.RELEASE_GRACE,
        settings.DISPATCH_INTERVAL,
        settings.PATIENCE,
        settings.MAX_ATTEMPTS,
        settings.UNKNOWN_RESOURCES,
        settings.HISTORY_DAYS,
        settings.LOG_LEVEL,
    )
}
"""Settings that take effect as soon as they are read again; all others need a restart."""

_OTHER_NAMES = {
    "bindings": "bind",
    "amqp": "amqp-url",
    "database": "database_<env>.yml",
    "etcd": "etcd-host",
    "etcd_access": "etcd-user",
    "events": "no-events",
    "http.endpoint": "http",
    "http.asked": "http",
    "http.token": "http-token-file",
    "http.hosts": "http-host",
}
"""Fields of `Config` whose settings have another name; if there are several, the first one."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The result of reading the configuration again.

    Attributes:
        config: the configuration from now on: the new one, except for settings that need a restart.
        changed: "name=value" of each setting that has changed.
        pending: names of changed settings that need a restart; without values, which may be secrets.
    """

    config: Config
    changed: tuple[str, ...]
    pending: tuple[str, ...]


def reloaded(old: Config, new: Config) -> Reloaded:
    """Return which parts of a new configuration replace the old one while the manager runs."""
    before = dict(_values(old))
    different = {_name(field): value for field, value in _values(new) if before[field] != value}
    return Reloaded(
        _taken_over(old, new),
        tuple(f"{name}={_shown(value)}" for name, value in different.items() if name in LIVE),
        tuple(name.replace("<env>", old.env) for name in different if name not in LIVE),
    )


def _values(config: Config) -> Iterator[tuple[str, object]]:
    """Iterate over the fields of a configuration; nested ones are named ``part.field``."""
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name in ("log", "http"):
            yield from ((f"{each.name}.{part.name}", getattr(value, part.name)) for part in fields(value))
        elif each.name != "warnings":
            yield each.name, value


def _name(field: str) -> str:
    return _OTHER_NAMES.get(field) or field.replace("_", "-").replace(".", "-")


def _taken_over(old: Config, new: Config) -> Config:
    live = {name: getattr(new, name) for name, _ in _values(new) if _name(name) in LIVE - {"log-level"}}
    return replace(old, log=replace(old.log, level=new.log.level), **live)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
