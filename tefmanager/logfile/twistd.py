"""Checks whether twistd can use its files: otherwise it would end with a traceback, or silently.

twistd asks for the service before it writes anything and before it changes its user, so this is the time to
check.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_MOST = 4096
"""The most bytes of a file name that the child process reports."""


def fault_of_files(twistd: Mapping[str, Any], *, own_log: bool) -> str | None:
    """Return which file twistd can't write or its user can't read, with what is expected, or None.

    ``own_log``: twistd itself writes no log.
    """
    folder = Path(twistd.get("rundir") or ".")
    if not os.access(folder, os.X_OK) or not folder.is_dir():
        return f"twistd can't go to {folder.absolute()} (--rundir), expected a folder that is there"
    pid = twistd.get("pidfile")
    if pid and (why := _unwritable(folder / pid)):
        return (
            f"twistd can't write its pid file {folder.absolute() / pid}: {why}; "
            "expected --pidfile=FILE in a folder that may be written, or --pidfile= for none"
        )
    said = any(twistd.get(option) for option in ("nodaemon", "logfile", "logger", "syslog"))
    log = Path("twistd.log")
    if not own_log and not said and (why := _unwritable(log)):
        return f"twistd can't write {log.absolute()}: {why}; expected --log-file=FILE for the log"
    return _unreadable_by(twistd.get("uid"), twistd.get("gid"))


def _unwritable(path: Path) -> str | None:
    """Return why a file can't be written, or None."""
    if path.exists():
        return None if os.access(path, os.W_OK) else "Permission denied"
    if not path.parent.is_dir():
        return "No such file or directory"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else "Permission denied"


def _unreadable_by(uid: int | None, gid: int | None) -> str | None:
    """Return which file of the program the future user can't read, or None."""
    if uid is None or os.geteuid() != 0 or uid == 0:
        return None
    named = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    files = sorted(named - {""})
    found = _first_unreadable(files, uid, gid)
    if found is None:
        return None
    return f"user {_name(uid)} (--uid) can't read {found}; expected Python and tef-manager where it can"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _first_unreadable(files: Iterable[str], uid: int, gid: int | None) -> str | None:
    """Return the first file that a user can't read, found in a process that becomes that user."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            if gid is not None:
                os.setgid(gid)
            os.setuid(uid)
            denied = next((file for file in files if not os.access(file, os.R_OK)), "")
            os.write(write, os.fsencode(denied)[:_MOST])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return os.fsdecode(found) or None
