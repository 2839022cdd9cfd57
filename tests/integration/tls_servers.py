"""Servers that require TLS, a client certificate and a password; and the files for it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest_twisted
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tefmanager.sandbox.etcd_server import Etcd
from tefmanager.sandbox.machine import HOST, Account, Programs, free_ports
from tefmanager.sandbox.postgresql_server import Database, PostgreSQL
from tefmanager.sandbox.process import Command
from tefmanager.sandbox.rabbitmq_server import RabbitMQ
from tefmanager.sandbox.server import NotReady, Server
from tests.integration.grid_etcd import V2, V3

USER = "tef"
"""The common name in the client certificate, and the user in PostgreSQL and Etcd."""

CLIENT = "manager.example.com"
"""The host name in the client certificate."""

PASSWORD = "correct horse"
"""The user's password in Etcd."""

ROOT_PASSWORD = "battery staple"


class Certificates:
    """The files of a CA that all servers trust, and of a stranger.

    Args:
        folder: for the files; created if necessary.
        account: owns the servers' files.

    Attributes:
        ca, cert, key: the client's files.
        nameless_cert, nameless_key: the client's files without a common name, as Etcd's v3 gateway
            requires.
        server_cert, server_key: of the servers, all of which are at one address.
        stranger_ca, stranger_cert, stranger_key: of somebody else.
        both, named_both, stranger_both: certificate and key in one file.
    """

    def __init__(self, folder: Path, account: Account) -> None:
        account.make_folder(folder)
        self._folder = folder
        authority, stranger = trustme.CA(organization_name="Ours"), trustme.CA(organization_name="Stranger")
        self.ca = self._write("ca.pem", authority.cert_pem)
        self.cert, self.key = self._issue("ours", authority.issue_cert(CLIENT, common_name=USER))
        self.nameless_cert, self.nameless_key = self._issue("nameless", authority.issue_cert(CLIENT))
        self.stranger_ca = self._write("stranger-ca.pem", stranger.cert_pem)
        found = self._issue("stranger", stranger.issue_cert(CLIENT, common_name=USER))
        self.stranger_cert, self.stranger_key = found
        self.server_cert, self.server_key = self._issue("server", authority.issue_cert(HOST))
        # A single file with both can be replaced atomically.
        self.both = self._write("both.pem", _joined(self.nameless_key, self.nameless_cert))
        self.named_both = self._write("named-both.pem", _joined(self.key, self.cert))
        self.stranger_both = self._write("stranger-both.pem", _joined(*found[::-1]))
        for path in (self.ca, self.server_cert, self.server_key):
            os.chown(path, account.user, account.group)

    def _issue(self, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
        pem, *_ = issued.cert_chain_pems
        return self._write(f"{name}.pem", pem), self._write(f"{name}.key", issued.private_key_pem)

    def _write(self, name: str, blob: trustme.Blob) -> Path:
        path = self._folder / name
        blob.write_to_path(path)
        path.chmod(0o600)
        return path

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for another client."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.nameless_cert, self.nameless_key)
        return context


def _joined(*paths: Path) -> trustme.Blob:
    return trustme.Blob(b"".join(path.read_bytes() for path in paths))


class TlsRabbitMQ(RabbitMQ):
    """Also listens for TLS, where it requires a certificate; the port without TLS stays open."""

    def __init__(self, reactor: Any, folder: Path, account: Account, programs: Programs) -> None:
        super().__init__(reactor, folder, account, programs.rabbitmq_server)
        self.certificates = Certificates(folder / "certificates", account)
        [self.tls_port] = free_ports(1)

    async def prepare(self) -> None:
        await super().prepare()
        own = self.certificates
        lines = [
            f"listeners.ssl.1 = {HOST}:{self.tls_port}",
            f"ssl_options.cacertfile = {own.ca}",
            f"ssl_options.certfile = {own.server_cert}",
            f"ssl_options.keyfile = {own.server_key}",
            "ssl_options.verify = verify_peer",
            "ssl_options.fail_if_no_peer_cert = true",
        ]
        with (self.folder / "rabbitmq.conf").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))


class TlsPostgreSQL(PostgreSQL):
    """Requires TLS, a certificate whose common name is the user's name, and the password."""

    def __init__(self, reactor: Any, folder: Path, account: Account, programs: Programs) -> None:
        super().__init__(reactor, folder, account, programs.initdb, programs.postgres, fast=True)
        self.certificates = Certificates(folder / "certificates", account)

    async def prepare(self) -> None:
        await super().prepare()
        rule = f"hostssl all all {HOST}/32 scram-sha-256 clientcert=verify-full\n"
        (self.folder / "data" / "pg_hba.conf").write_text(rule)

    def command(self) -> Command:
        own = self.certificates
        settings = {
            "ssl": "on",
            "ssl_ca_file": own.ca,
            "ssl_cert_file": own.server_cert,
            "ssl_key_file": own.server_key,
        }
        plain = super().command()
        more = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return Command(
            [*plain.arguments, *more],
            plain.folder,
            plain.log,
            plain.account,
            plain.environment,
            plain.stop_signal,
        )

    def _connection_to(self, dbname: str) -> Database:
        own = self.certificates
        files = {"sslrootcert": str(own.ca), "sslcert": str(own.cert), "sslkey": str(own.key)}
        return {**super()._connection_to(dbname), "sslmode": "verify-full", **files}


class TlsEtcd(Etcd):
    """Requires https with a certificate."""

    def __init__(self, reactor: Any, folder: Path, account: Account, programs: Programs) -> None:
        super().__init__(reactor, folder, account, programs.etcd, fast=True)
        self.certificates = Certificates(folder / "certificates", account)
        self.admin = EtcdAdmin(self.port, self.certificates)

    def command(self) -> Command:
        own, plain = self.certificates, super().command()
        secure = [word.replace(f"http://{HOST}:{self.port}", self.url) for word in plain.arguments]
        more = [
            *("--cert-file", str(own.server_cert), "--key-file", str(own.server_key)),
            *("--trusted-ca-file", str(own.ca), "--client-cert-auth"),
            *("--bcrypt-cost", "4"),
        ]
        return Command([*secure, *more], plain.folder, plain.log, plain.account, plain.environment)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"https://{HOST}:{self.port}"

    async def probe(self) -> None:
        try:
            _, answer = await deferToThread(self.admin.ask, "GET", "/health", None, "")
        except (OSError, ValueError) as error:
            raise NotReady from error
        if answer.get("health") != "true":
            raise NotReady


class EtcdAdmin:
    """Another client that has all rights.

    Attributes:
        locked: whether logins are required.
    """

    def __init__(self, port: int, certificates: Certificates) -> None:
        self._port = port
        self._certificates = certificates
        self.locked = False

    def ask(
        self, method: str, path: str, body: str | None, content_type: str, token: str = ""
    ) -> tuple[int, Any]:
        """Send a request with a token, or else as root; return the status and the answer."""
        headers = {"Content-Type": content_type}
        if token:
            headers["Authorization"] = token
        elif self.locked:
            headers["Authorization"] = self._basic() if path.startswith("/v2") else self._token()
        return self._send(method, path, body, headers)

    def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
        context = self._certificates.context()
        connection = http.client.HTTPSConnection(HOST, self._port, timeout=20, context=context)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else {}
        finally:
            connection.close()

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"root:{ROOT_PASSWORD}".encode()).decode()

    def _token(self) -> str:
        login = json.dumps({"name": "root", "password": ROOT_PASSWORD})
        status, answer = self._send("POST", "/v3/auth/authenticate", login, {})
        assert status == 200, answer
        return str(answer["token"])

    def auth(self, path: str, **message: Any) -> None:
        """Administer v3's users."""
        status, answer = self.ask("POST", f"/v3/auth/{path}", json.dumps(message), "application/json")
        assert status == 200, answer

    def auth_v2(self, path: str, **message: Any) -> None:
        """Administer v2's users."""
        status, answer = self.ask("PUT", f"/v2/auth/{path}", json.dumps(message), "application/json")
        assert status in (200, 201), answer

    def lock(self) -> None:
        """Require logins from now on; the manager's user may do everything with resources."""
        self._lock_v3()
        self._lock_v2()
        self.locked = True
        kv = {"kv": {"read": ["/*"], "write": ["/*"]}}
        self.auth_v2("roles/guest", role="guest", revoke=kv)

    def _lock_v3(self) -> None:
        for user, password in (("root", ROOT_PASSWORD), (USER, PASSWORD)):
            self.auth("user/add", name=user, password=password)
            self.auth("role/add", name=user)
            self.auth("user/grant", user=user, role=user)
        begin, end = (
            base64.b64encode(key).decode() for key in (b"/tef/dev/resources/", b"/tef/dev/resources0")
        )
        self.auth("role/grant", name=USER, perm={"permType": "READWRITE", "key": begin, "range_end": end})
        self.auth("enable")

    def _lock_v2(self) -> None:
        below = {"kv": {"read": ["/tef/dev/resources*"], "write": ["/tef/dev/resources*"]}}
        self.auth_v2("users/root", user="root", password=ROOT_PASSWORD)
        self.auth_v2(f"roles/{USER}", role=USER, permissions=below)
        self.auth_v2(f"users/{USER}", user=USER, password=PASSWORD, roles=[USER])
        self.auth_v2("enable")

    def set_password(self, password: str) -> None:
        """Change the user's password in both APIs."""
        self.auth("user/changepw", name=USER, password=password)
        self.auth_v2(f"users/{USER}", user=USER, password=password)

    def end_tokens(self) -> None:
        """Expire the user's tokens, as after five minutes without use."""
        self.auth("user/changepw", name=USER, password=PASSWORD)

    def keys(self, api: str) -> V2 | V3:
        """Return the resources' keys through an API."""
        return V2(self) if api == "v2" else V3(self)


@contextmanager
def started(*servers: Server) -> Iterator[None]:
    """Run servers."""
    starting = [Deferred.fromCoroutine(server.start()) for server in servers]
    try:
        for each in starting:
            pytest_twisted.blockon(each)
        yield
    finally:
        for server in servers:
            pytest_twisted.blockon(Deferred.fromCoroutine(server.discard()))
