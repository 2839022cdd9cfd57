"""The only module that reads the clocks."""

from __future__ import annotations

import time
from datetime import datetime

from tefmanager.core.model.values import Moment


def read_clocks() -> Moment:
    """Return the time of all clocks. Local time follows the system's zone."""
    wall = time.time()
    return Moment(time.monotonic(), wall, datetime.fromtimestamp(wall))
