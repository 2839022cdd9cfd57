"""What all commands of ``tefctl`` have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tefmanager.config import Config, ConfigError, config_from
from tefmanager.ctl.broker import Broker, connected
from tefmanager.ctl.errors import CtlError, Exit


@dataclass
class Session:
    """What was given before the command.

    Attributes:
        options: those of the manager that were given, by their names.
        patience: seconds to wait for an answer.
        json: print JSON, for scripts.
    """

    options: dict[str, object]
    patience: float
    json: bool

    def config(self) -> Config:
        """Return the manager's configuration, its database left out."""
        try:
            return config_from(self.options, os.environ, database=False)
        except ConfigError as error:
            raise CtlError(Exit.CONFIG, str(error)) from None

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """Connect to RabbitMQ."""
        with connected(self.config(), self.patience) as broker:
            yield broker
