"""Programs from Debian packages that tests run; ``script/test`` installs them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

UNPACKED = Path(sys.prefix) / "debian"
"""The folder in which ``script/test`` unpacks packages that it does not install."""

_FOLDERS = ("usr/bin", "usr/sbin", "usr/lib/nagios/plugins")


def program(name: str, package: str) -> str:
    """Return the path of a program."""
    places = [str(root / folder) for root in (UNPACKED, Path("/")) for folder in _FOLDERS]
    found = shutil.which(name, path=os.pathsep.join(places))
    assert found, f"{name} of the Debian package {package} is missing; script/test brings it"
    return found
