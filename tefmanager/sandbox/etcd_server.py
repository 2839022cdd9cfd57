"""An Etcd with one member, with the v2 API enabled if this version has it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import treq
from twisted.web.client import HTTPConnectionPool, ResponseNeverReceived, _HTTP11ClientFactory
from twisted.web.http import PotentialDataLoss

from tefmanager.sandbox.machine import HOST, Account, free_ports
from tefmanager.sandbox.process import Command
from tefmanager.sandbox.server import NotReady, Reactor, Server


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted's own factory, without its two log lines per request."""

    noisy = False


class Etcd(Server):
    """An Etcd server.

    Args:
        reactor, folder, account: see `Server`.
        program: ``etcd``.
        fast: trade safety of the data for speed.
        ports: for clients and for peers; None finds free ones.
    """

    name = "etcd"

    def __init__(
        self,
        reactor: Reactor,
        folder: Path,
        account: Account,
        program: Path,
        fast: bool,
        ports: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reactor, folder, account)
        self.port, self._peer_port = ports or free_ports(2)
        self._program = program
        self._fast = fast
        self._options: list[str] = []
        self._pool = HTTPConnectionPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
        self._pool._factory = _QuietFactory

    async def prepare(self) -> None:
        """Find out which of the desired options this version supports."""
        help_file = self.log.with_suffix(".help")
        arguments = [str(self._program), "--help"]
        await self.run(Command(arguments, self.folder, help_file, self._account, _environment()))
        known = help_file.read_text("utf-8", "replace")
        wanted = ["--enable-v2", *(["--unsafe-no-fsync"] if self._fast else [])]
        self._options = [option for option in wanted if option in known]

    def command(self) -> Command:
        """Return the command to run."""
        client, peer = f"http://{HOST}:{self.port}", f"http://{HOST}:{self._peer_port}"
        arguments = [
            *(str(self._program), "--name", "sandbox", "--data-dir", str(self.folder / "data")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"sandbox={peer}"),
            # A single member elects itself after one such timeout; the default is a second.
            *("--heartbeat-interval", "50", "--election-timeout", "250"),
            *self._options,
        ]
        return Command(arguments, self.folder, self.log, self._account, _environment())

    async def probe(self) -> None:
        """Query its health: it is healthy when it has a leader and can write."""
        url = f"http://{HOST}:{self.port}/health"
        try:
            response = await treq.get(url, pool=self._pool, reactor=self._reactor)
            answer = await response.json()
        except (ResponseNeverReceived, PotentialDataLoss, ValueError) as error:
            raise NotReady from error
        if answer.get("health") != "true":
            raise NotReady


def _environment() -> dict[str, str]:
    # Without this, some versions refuse to run on ARM, although they work there.
    return {"ETCD_UNSUPPORTED_ARCH": "arm64"} if platform.machine() == "aarch64" else {}
