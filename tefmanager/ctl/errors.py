"""How ``tefctl`` ends when something is wrong; described in ``docs/tefctl.md``."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses, except 2, which click uses for a wrong command line."""

    DONE = 0
    NO = 1
    """The answer is no: something does not exist, or a task failed or was not completed."""
    CONFIG = 3
    BROKER = 4
    MANAGER = 5
    ETCD = 6
    DATABASE = 7


class CtlError(Exception):
    """Ends the program with one line on standard error and an exit status."""

    def __init__(self, status: Exit, message: str) -> None:
        super().__init__(message)
        self.status = status
