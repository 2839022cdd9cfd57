"""What all commands of ``tefctl`` share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from tefmanager.config.config import Config, ConfigError, config_from
from tefmanager.config.secrets import KNOWN
from tefmanager.ctl.broker import Broker, connected
from tefmanager.ctl.errors import CtlError, Exit

MOST_SECONDS = 1e9
"""The longest duration. A longer one is a mistake, and more than some clocks support."""


class Seconds(click.FloatRange):
    """A duration on the command line; nan and inf are rejected.

    Args:
        least: the shortest; 0 itself is allowed only if ``zero`` is set.
        most: the longest.
    """

    def __init__(self, least: float = 0.0, most: float = MOST_SECONDS, *, zero: bool = False) -> None:
        super().__init__(least, most, min_open=not (least or zero))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail with a usage error."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):  # no comparison rejects nan
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return found


@dataclass
class Session:
    """The options given before the command.

    Attributes:
        options: the manager's options that were given, by name.
        patience: seconds to wait for an answer.
        json: print JSON, for scripts.
    """

    options: dict[str, object]
    patience: float
    json: bool

    def config(self, *, database: bool = False) -> Config:
        """Return the manager's configuration, without its database unless that is needed."""
        try:
            config = config_from(self.options, os.environ, database=database)
        except ConfigError as error:
            raise CtlError(Exit.CONFIG, str(error)) from None
        KNOWN.learn(config.secrets)
        return config

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """Connect to RabbitMQ."""
        with connected(self.config(), self.patience) as broker:
            yield broker
