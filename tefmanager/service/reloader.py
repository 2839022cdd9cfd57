"""Reads the configuration again while the manager runs."""

from __future__ import annotations

from collections.abc import Callable

from tefmanager.config.config import Config, ConfigError
from tefmanager.config.reload import reloaded
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.service.systemd import Notifier
from tefmanager.support.clocks import read_clocks


class Reloader:
    """Holds the present configuration.

    Args:
        read: reads options, environment and files. If it raises `ConfigError`, nothing changes.
        config: the configuration at the start.
        notifier: is told when reloading begins and ends.
    """

    def __init__(self, read: Callable[[], Config], config: Config, notifier: Notifier) -> None:
        self._read = read
        self._config = config
        self._notifier = notifier
        self._followers: list[Callable[[Config], None]] = []

    def follow(self, change: Callable[[Config], None]) -> None:
        """Call ``change`` with each new configuration."""
        self._followers.append(change)

    def reload(self) -> None:
        """Read the configuration, apply what may change, and log what was applied and what was not."""
        self._notifier.tell_reloading(read_clocks().monotonic)
        try:
            self._reload()
        finally:
            self._notifier.tell_reloaded()

    def _reload(self) -> None:
        try:
            found = reloaded(self._config, self._read())
        except ConfigError as error:
            emit(catalogue.RELOAD_FAILED(str(error)))
            return
        self._config = found.config
        for change in self._followers:
            change(found.config)
        emit(catalogue.RELOADED(" ".join(found.changed), " ".join(found.pending)))
