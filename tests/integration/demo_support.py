"""Shared by the tests of the demo and the tutorial: environments, and what programs leave behind."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from tests.paths import ROOT


def child_environment(folder: Path) -> dict[str, str]:
    """Return variables for a program that must find this checkout with its plugin, and no settings.

    Its temporary files go to a subfolder of the given folder, so that leftovers can be found.
    """
    plugins = folder / "plugins" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    shutil.copy(ROOT / "twisted_plugin" / "tef_manager.py", plugins)
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
    paths = [str(folder / "plugins"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(temporary_files(folder))}


def temporary_files(folder: Path) -> Path:
    """Return the folder for temporary files, which unprivileged servers can use too."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    for each in (temporary, folder, *folder.parents):
        if each.stat().st_uid == os.getuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o001)
    return temporary


def exported(text: str) -> dict[str, str]:
    """Return the variables that a program tells people to export."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("export "):
            found |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
    return found


def processes_in(folder: Path) -> list[int]:
    """Return the ids of processes whose temporary files go to a folder."""
    mark = f"TMPDIR={folder}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if mark in variables or bytes(folder) in command:
                found.append(int(process.name))
    return found
