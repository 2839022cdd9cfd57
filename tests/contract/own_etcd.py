"""An Etcd for a single test: with limits, with users, and with a snapshot that can be restored."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree, which
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tefmanager.sandbox.etcd_server import Etcd
from tefmanager.sandbox.machine import HOST, Account
from tefmanager.sandbox.process import Command
from tests.contract.etcds import base64_of, http

ROOT_V2 = "Basic cm9vdDpyb290"
"""The header with which root, whose password is root, logs in to v2."""

USER = "tef"
"""The manager's user, which is also its password; its role may read everything and write what it was
given."""


class OwnEtcd(Etcd):
    """An Etcd with both APIs.

    Args:
        folder: for all its files.
        more: additional options.

    Attributes:
        users: their rights, after `Users.let_nobody_in` was called.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        super().__init__(reactor, folder, Account(), Path(which("etcd") or "etcd"), fast=True)
        self._more: Sequence[str] = more
        self.users = Users(self.url)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Return host and port."""
        return HOST, self.port

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> Command:
        """Return the command to run."""
        command = super().command()
        return replace(command, arguments=[*command.arguments, *self._more])

    async def remember(self) -> None:
        """Take a snapshot."""
        await remember(self)

    async def bring_back(self) -> None:
        """Restore the snapshot; without one, delete everything."""
        await bring_back(self)


async def remember(etcd: Etcd) -> None:
    """Take a snapshot of an Etcd, which is away for a moment."""
    await etcd.stop()
    rmtree(etcd.folder / "then", ignore_errors=True)
    subprocess.run(["cp", "-a", str(etcd.folder / "data"), str(etcd.folder / "then")], check=True)
    await etcd.start()


async def bring_back(etcd: Etcd) -> None:
    """Restore the snapshot of an Etcd; without one, delete everything."""
    await etcd.kill()
    rmtree(etcd.folder / "data")
    if (etcd.folder / "then").exists():
        subprocess.run(["cp", "-a", str(etcd.folder / "then"), str(etcd.folder / "data")], check=True)
    await etcd.start()


class Users:
    """The users of an Etcd, and their rights.

    Args:
        url: Etcd's URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def let_nobody_in(self, *apis: str) -> None:
        """Create root and the manager's user, and enable authentication in these APIs, or in both."""
        if "v3" in apis or not apis:
            await self._close_v3()
        if "v2" in apis or not apis:
            await self._close_v2()

    async def _close_v3(self) -> None:
        for name in ("root", USER):
            await self._v3("user/add", {"name": name, "password": name})
            await self._v3("role/add", {"name": name})
            await self._v3("user/grant", {"user": name, "role": name})
        await self._v3("role/grant", {"name": USER, "perm": {"permType": "READ", **_range("/tef/")}})
        await self._v3("enable", {})

    async def _close_v2(self) -> None:
        for name in ("root", USER):
            await self._v2(f"users/{name}", {"user": name, "password": name})
        rights = {"kv": {"read": ["/*"], "write": []}}
        await self._v2(f"roles/{USER}", {"role": USER, "permissions": rights})
        await self._v2(f"users/{USER}", {"user": USER, "grant": [USER]})
        await self._v2("enable", {})
        taken = {"kv": {"read": ["/*"], "write": ["/*"]}}
        await self._v2("roles/guest", {"role": "guest", "revoke": taken})

    async def token(self) -> str:
        """Log root in to v3 and return the token."""
        return str((await self._v3("authenticate", {"name": "root", "password": "root"}))["token"])

    async def permit(self, api: str, begin: str) -> None:
        """Allow the manager's user to write all keys with this prefix."""
        if api == "v2":
            await self._v2(f"roles/{USER}", {"role": USER, "grant": _patterns(begin)})
        else:
            right = {"name": USER, "perm": {"permType": "READWRITE", **_range(begin)}}
            await self._v3("role/grant", right, await self.token())

    async def forbid(self, api: str, begin: str) -> None:
        """Revoke such a permission."""
        if api == "v2":
            await self._v2(f"roles/{USER}", {"role": USER, "revoke": _patterns(begin)})
        else:
            await self._v3("role/revoke", {"role": USER, **_range(begin)}, await self.token())

    async def _v3(self, what: str, message: Mapping[str, object], token: str = "") -> Any:
        body = json.dumps(message).encode()
        answer = await deferToThread(http, "POST", f"{self._url}/v3/auth/{what}", body, token=token)
        assert "header" in answer, answer
        return answer

    async def _v2(self, what: str, message: Mapping[str, object]) -> None:
        body = json.dumps(message).encode()
        answer = await deferToThread(http, "PUT", f"{self._url}/v2/auth/{what}", body, token=ROOT_V2)
        assert "message" not in (answer or {}), answer


def _range(begin: str) -> dict[str, str]:
    return {"key": base64_of(begin), "range_end": base64_of(begin[:-1] + chr(ord(begin[-1]) + 1))}


def _patterns(begin: str) -> dict[str, object]:
    return {"kv": {"read": [], "write": [f"{begin}*"]}}
