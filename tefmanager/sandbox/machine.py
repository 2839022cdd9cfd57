"""What the sandbox needs from the machine: programs, free ports, and a user without privileges."""

from __future__ import annotations

import os
import pwd
import random
import re
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
"""The only address on which the sandbox's servers listen."""

_LOWEST_PORT = 20000
_USUAL_EPHEMERAL_PORTS = 32768


class SandboxError(Exception):
    """The sandbox could not be started; the text says which part failed and why, for people."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths of the servers' programs."""

    rabbitmq_server: Path
    initdb: Path
    postgres: Path
    etcd: Path

    @classmethod
    def find(cls, root: Path = Path("/")) -> Programs:
        """Look where Debian installs them, below a root folder, and in ``PATH``.

        The newest of several versions is used. Raises `SandboxError`, one line that names every missing
        program with its Debian package.
        """
        postgresql = root / "usr/lib/postgresql"
        candidates = {
            ("rabbitmq-server", "rabbitmq-server"): [
                root / "usr/lib/rabbitmq/bin/rabbitmq-server",
                *_newest_first(
                    (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")
                ),
            ],
            ("initdb", "postgresql"): _newest_first(postgresql.glob("*/bin/initdb")),
            ("postgres", "postgresql"): _newest_first(postgresql.glob("*/bin/postgres")),
            ("etcd", "etcd-server"): [root / "usr/bin/etcd", root / "usr/local/bin/etcd"],
        }
        found = {names: _first_program(paths) for names, paths in candidates.items()}
        missing = {package: name for (name, package), path in found.items() if path is None}
        if missing:
            raise SandboxError(_missing(missing))
        return cls(*(path for path in found.values() if path is not None))


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


def _first_program(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _missing(names: dict[str, str]) -> str:
    """Say what is missing; ``names`` are programs by package."""
    packages = "package" if len(names) == 1 else "packages"
    return f"{', '.join(names.values())} not found: install the Debian {packages} {' '.join(names)}"


@dataclass(frozen=True, slots=True)
class Account:
    """The user that runs the servers: user and group id, or -1 and -1 for the present user."""

    user: int = -1
    group: int = -1

    @classmethod
    def unprivileged(cls) -> Account:
        """Return the present user or, for root, a user that PostgreSQL does not refuse."""
        if os.geteuid() != 0:
            return cls()
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        raise SandboxError(
            "running as root, and there is neither a user postgres nor a user nobody to run the servers as"
        )

    def make_folder(self, path: Path) -> Path:
        """Create a folder that only this user can use."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(path, self.user, self.group, follow_symlinks=False)
        return path

    def make_room(self, path: Path) -> Path:
        """Create a folder that is ours alone, through which this user can reach a folder of its own.

        Nothing that we write there can be redirected: nobody else can put a link into it. Raises
        FileExistsError.
        """
        path.mkdir(mode=0o700, parents=True)
        return self.open_way(path)

    def open_way(self, path: Path) -> Path:
        """Let this user pass through a folder of ours without seeing its contents."""
        path.chmod(0o700 if self.user < 0 else 0o711)
        return path

    def write(self, path: Path, text: str) -> None:
        """Write a file in a folder of this user's; what the user put there is replaced, never followed."""
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchown(file.fileno(), self.user, self.group)
            file.write(text)


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback address to which nothing is bound.

    They lie below the range from which the kernel takes the local ports of outgoing connections: from that
    range, any client may get a port before the server starts, or while a test has stopped it, and one that
    reconnects to its own local port even succeeds.
    """
    # Not the shared generator: tests seed it, and two running at once would choose the same ports.
    chance = random.SystemRandom()
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = chance.randrange(_LOWEST_PORT, _highest_port())
            with suppress(OSError):
                listener = held.enter_context(socket.socket())
                listener.bind((HOST, port))
                ports.append(port)
    return ports


def _highest_port() -> int:
    with suppress(OSError, ValueError):
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if low > _LOWEST_PORT + 1000:
            return low
    return _USUAL_EPHEMERAL_PORTS
