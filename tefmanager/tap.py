"""What ``twistd tef-manager`` runs: the options, and the service that they and the environment describe."""

from __future__ import annotations

import os
from typing import cast

from twisted.application.service import IService, MultiService

from tefmanager.config import Config, ConfigError, config_from
from tefmanager.options import Options
from tefmanager.startup import refuse

__all__ = ["Options", "makeService"]


def load_config(options: Options) -> Config:
    """Return the configuration, or end the process with one line that says what is wrong with it."""
    try:
        return config_from(options, os.environ)
    except ConfigError as error:
        refuse(str(error), options.parent)


def makeService(options: Options) -> IService:
    """Build the service. Nothing is started here."""
    load_config(options)
    return cast(IService, MultiService())  # type: ignore[no-untyped-call]
