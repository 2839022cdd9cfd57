"""The daemon on servers that demand TLS, certificates and logins; what it says when they refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg2
import pytest

from tefmanager.sandbox import Sandbox
from tefmanager.sandbox.machine import HOST, Account, Programs
from tests.integration.daemon import CALM, Daemon, until
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import Shared, all_back
from tests.integration.tls_servers import (
    PASSWORD,
    USER,
    Certificates,
    TlsEtcd,
    TlsPostgreSQL,
    TlsRabbitMQ,
    started,
)
from tests.services import Services

WRONG = "hunter2"
"""A password that opens nothing until a test makes it do so."""

LONG = "é" * 500_000
"""Data of a task that is cut into many frames and records."""

QUICK = 4.0
"""Seconds in which a daemon stops that has nothing under way."""

STEADY = 0.7
"""Seconds in which a daemon that tries again says nothing new."""


@dataclass
class Fortress:
    """The three servers, and files that a test may exchange under a daemon that uses them."""

    rabbitmq: TlsRabbitMQ
    postgresql: TlsPostgreSQL
    etcd: TlsEtcd

    def services(self, host: str = HOST, guest: str = "guest", /, **database: Any) -> Services:
        """Return where RabbitMQ and Etcd are and the guest's password there, and what PostgreSQL needs."""
        url = f"amqps://guest:{guest}@{host}:{self.rabbitmq.tls_port}/"
        found = {**self.postgresql.database, **database}
        return Services(url, found, (host, self.etcd.port), cast(Sandbox, None))

    def daemon(self, services: Services, folder: Path, *options: str, **variables: str) -> Daemon:
        """Return a daemon that has all it needs, but for what the variables change."""
        usual = {
            "TEF_AMQP_CA_DEV": str(self.rabbitmq.certificates.ca),
            "TEF_AMQP_CERT_DEV": str(self.rabbitmq.certificates.cert),
            "TEF_AMQP_KEY_DEV": str(self.rabbitmq.certificates.key),
            "TEF_ETCD_CA_DEV": str(self.etcd.certificates.ca),
            "TEF_ETCD_CERT_DEV": str(self.etcd.certificates.nameless_cert),
            "TEF_ETCD_KEY_DEV": str(self.etcd.certificates.nameless_key),
            "TEF_ETCD_USER_DEV": USER,
            "TEF_ETCD_PASSWORD_DEV": PASSWORD,
        }
        own = {name: text for name, text in {**usual, **variables}.items() if text}
        return Daemon(services, folder, fresh("tls"), *CALM, *options, variables=own)

    def set_database_password(self, old: str, new: str) -> None:
        """Change our user's password in PostgreSQL."""
        connection = psycopg2.connect(**{**self.postgresql.database, "password": old})
        with connection, connection.cursor() as cursor:
            cursor.execute(f"alter user {USER} password %s", [new])
        connection.close()

    def set_broker_password(self, password: str) -> None:
        """Change the guest's password in RabbitMQ."""
        broker = self.rabbitmq
        own = {"HOME": str(broker.folder), "RUNNING_UNDER_SYSTEMD": ""}
        program = "/usr/lib/rabbitmq/bin/rabbitmqctl"
        subprocess.run(
            [program, "-q", "-n", broker.node, "change_password", "guest", password],
            env={**os.environ, **broker.environment(), **own},
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )


@pytest.fixture(scope="module")
def fortress() -> Iterator[Fortress]:
    """All three servers, Etcd with logins in both of its APIs."""
    from twisted.internet import reactor

    account, programs = Account.unprivileged(), Programs.find()
    folder = account.make_folder(Path(tempfile.mkdtemp(prefix="tef-tls-")))
    built = Fortress(
        TlsRabbitMQ(reactor, folder / "rabbitmq", account, programs),
        TlsPostgreSQL(reactor, folder / "postgresql", account, programs),
        TlsEtcd(reactor, folder / "etcd", account, programs),
    )
    try:
        with started(built.rabbitmq, built.postgresql, built.etcd):
            built.etcd.admin.lock()
            yield built
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Run a daemon that may be refused; when all went well it ends well, and soon."""
    try:
        daemon.start(ready=False)
        yield daemon
        assert daemon.stop() < QUICK, "goodbyes over TLS are not waited for"
    finally:
        daemon.end()


def only(daemon: Daemon, start: str) -> str:
    """Wait for an event, and return it if there was no other that begins so."""
    daemon.log.wait(start)
    (event,) = daemon.log.events(start)
    return event


def troubles(daemon: Daemon) -> list[str]:
    """Return what it has logged that is more than information."""
    return [line for line in daemon.log.lines if re.match(r"\S+ (warn|error|critical) ", line)]


def quiet(daemon: Daemon, *secrets: str) -> None:
    """Check that a daemon that has told its trouble lives on, says no more of it, and tells no secret."""
    before = troubles(daemon)
    time.sleep(STEADY)
    assert daemon.alive
    assert troubles(daemon) == before
    assert not [line for line in daemon.log.lines if any(secret in line for secret in secrets)]


def put(path: Path, source: Path) -> Path:
    """Exchange a file at once."""
    new = path.with_suffix(".new")
    shutil.copy(source, new)
    return new.replace(path)


# --- all is well ---


@pytest.mark.parametrize("api", ["v2", "v3"])
def test_a_task_over_all_of_them(fortress: Fortress, tmp_path: Path, api: str) -> None:
    """Tasks with a resource are taken in, reserved, done and finished, also once our token has ended."""
    keys = fortress.etcd.admin.keys(api)
    resource = Shared(keys, fresh("resource")).make(1)
    with running(fortress.daemon(fortress.services(), tmp_path, f"--etcd-api={api}")) as daemon:
        daemon.wait_ready()
        grid = Grid(fortress.rabbitmq.url, daemon.prefix)
        worker = RubyWorker(grid, fresh("type"))
        for ends in (fortress.etcd.admin.end_tokens, lambda: None):
            worker.free()
            guid = grid.task(worker.worker_type, resources=[resource.name], task_data=LONG)
            received = worker.expect()
            assert (received.guid, received.message["task_data"]) == (guid, LONG)
            assert (resource.count, len(resource.locks())) == (1, 1)
            worker.begin(received)
            worker.finish(received)
            until(lambda: all_back(resource), "the reference")
            ends()
        until(lambda: len(daemon.rows("history")) == 2, "history")
        grid.close()
        assert not daemon.log.events("RESOURCES_LOST")
        secrets = (PASSWORD, fortress.postgresql.password)
        assert not [line for line in daemon.log.lines if any(secret in line for secret in secrets)]


# --- tefctl ---


def tefctl(
    daemon: Daemon, *arguments: str, status: int = 0, variables: Mapping[str, str] | None = None
) -> str:
    """Run tefctl with the daemon's environment, but for the database; return what it printed."""
    own = {**daemon.environment(), "TEF_MANAGER_DB_CONFIG": "", **(variables or {})}
    line = [sys.executable, "-m", "tefmanager.ctl", f"--name-prefix={daemon.prefix}", *arguments]
    done = subprocess.run(line, env=own, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


@pytest.mark.parametrize("api", ["v2", "v3"])
def test_tefctl(fortress: Fortress, tmp_path: Path, api: str) -> None:
    """It asks through RabbitMQ and changes Etcd with the same files, users and passwords as the manager."""
    name, variables = fresh("resource"), {"TEF_MANAGER_ETCD_API": api}
    with running(fortress.daemon(fortress.services(), tmp_path, f"--etcd-api={api}")) as daemon:
        daemon.wait_ready()
        assert json.loads(tefctl(daemon, "--json", "status"))["state"] == "running"
        tefctl(daemon, "resources", "set-limit", name, "3", variables=variables)
        until(lambda: f"{name} " in tefctl(daemon, "resources", "list"), "the resource")
        assert Shared(fortress.etcd.admin.keys(api), name).fields()["ref_limit"] == "3"
        tefctl(daemon, "set-state", "paused")
        daemon.log.wait("STATE_CHANGE|running|paused")


def test_tefctl_is_refused(fortress: Fortress, tmp_path: Path) -> None:
    """A wrong CA, no certificate, a wrong host and a wrong password are one line each, and a status."""
    own, port = fortress.rabbitmq.certificates, fortress.rabbitmq.tls_port
    daemon = fortress.daemon(fortress.services(), tmp_path)
    cases: list[tuple[dict[str, str], str]] = [
        ({"TEF_AMQP_CA_DEV": str(own.stranger_ca)}, "certificate verify failed"),
        ({"TEF_AMQP_CERT_DEV": "", "TEF_AMQP_KEY_DEV": ""}, f"RabbitMQ at {HOST}:{port}"),
        ({"TEF_AMQP_URL_DEV": f"amqps://guest:guest@localhost:{port}/"}, "certificate is not valid for"),
        ({"TEF_AMQP_URL_DEV": f"amqps://guest:{WRONG}@{HOST}:{port}/"}, "ACCESS_REFUSED"),
    ]
    for variables, text in cases:
        told = tefctl(daemon, "status", status=4, variables=variables)
        assert text in told
        assert (told.startswith("tefctl: RabbitMQ"), told.count("\n"), WRONG in told) == (True, 1, False)


# --- RabbitMQ and Etcd refuse ---


class Exchangeable:
    """Files for RabbitMQ and Etcd that are exchanged while a daemon uses them."""

    def __init__(self, folder: Path, fortress: Fortress) -> None:
        self._amqp, self._etcd = fortress.rabbitmq.certificates, fortress.etcd.certificates
        names = ("amqp-ca", "amqp-cert", "etcd-ca", "etcd-cert")
        self._paths = {name: folder / f"{name}.pem" for name in names}
        self.heal()

    @property
    def variables(self) -> dict[str, str]:
        """The settings that name them; the keys are in the certificates' files."""
        files = {
            f"TEF_{name.upper().replace('-', '_')}_DEV": str(path) for name, path in self._paths.items()
        }
        return {**files, "TEF_AMQP_KEY_DEV": "", "TEF_ETCD_KEY_DEV": ""}

    def heal(self) -> None:
        """Make them all good."""
        self._put("ca", self._amqp.ca, self._etcd.ca)
        self._put("cert", self._amqp.both, self._etcd.both)

    def spoil(self, what: str) -> None:
        """Let the CA, or our certificate, be a stranger's."""
        source = self._amqp.stranger_ca if what == "ca" else self._amqp.stranger_both
        self._put(what, source, source)

    def _put(self, what: str, amqp: Path, etcd: Path) -> None:
        put(self._paths[f"amqp-{what}"], amqp)
        put(self._paths[f"etcd-{what}"], etcd)


TOLD = ("BROKER_WAITING|consumer", "BROKER_WAITING|publisher", "RESOURCES_LOST")
"""What tells that RabbitMQ and Etcd can't be used."""


@pytest.mark.parametrize(
    ("api", "what", "text"),
    [
        ("v2", "ca", "TLS: the server's certificate was issued by a CA that we do not trust"),
        ("v3", "cert", "TLS: the server refused us: "),
    ],
)
def test_wrong_files(fortress: Fortress, tmp_path: Path, api: str, what: str, text: str) -> None:
    """A wrong CA and a wrong certificate are one line for each connection, and healed without a restart."""
    files = Exchangeable(tmp_path, fortress)
    files.spoil(what)
    daemon = fortress.daemon(fortress.services(), tmp_path, f"--etcd-api={api}", **files.variables)
    with running(daemon):
        for start in TOLD:
            assert text in only(daemon, start)
        quiet(daemon)
        files.heal()
        daemon.wait_ready()
        daemon.log.wait("BROKER_CONNECTED|publisher")
        daemon.log.wait("RESOURCES_READ")
        for start in TOLD:
            only(daemon, start)


def test_wrong_host(fortress: Fortress, tmp_path: Path) -> None:
    """A server whose certificate is for another name is not talked to."""
    with running(fortress.daemon(fortress.services("localhost"), tmp_path)) as daemon:
        for start in TOLD:
            text = "TLS: the server's certificate is for 127.0.0.1, not for localhost"
            assert text in only(daemon, start)
        quiet(daemon)


def test_no_certificate(fortress: Fortress, tmp_path: Path) -> None:
    """Servers that want a certificate say so."""
    none = dict.fromkeys(
        ("TEF_AMQP_CERT_DEV", "TEF_AMQP_KEY_DEV", "TEF_ETCD_CERT_DEV", "TEF_ETCD_KEY_DEV"), ""
    )
    with running(fortress.daemon(fortress.services(), tmp_path, **none)) as daemon:
        for start in TOLD:
            assert "TLS: the server refused us: " in only(daemon, start)
        quiet(daemon)


def test_wrong_passwords(fortress: Fortress, tmp_path: Path) -> None:
    """A wrong password is one line without it; once the servers know it, all goes on without a restart."""
    services = fortress.services(HOST, WRONG)
    variables = {"TEF_ETCD_PASSWORD_DEV": WRONG}
    with running(fortress.daemon(services, tmp_path, "--etcd-api=v3", **variables)) as daemon:
        for start in TOLD[:2]:
            assert "403 ACCESS_REFUSED" in only(daemon, start)
        assert f"not let in, as '{USER}': HTTP 40" in only(daemon, TOLD[2])
        quiet(daemon, WRONG)
        fortress.set_broker_password(WRONG)
        fortress.etcd.admin.set_password(WRONG)
        try:
            daemon.wait_ready()
            daemon.log.wait("RESOURCES_READ")
        finally:
            fortress.set_broker_password("guest")
            fortress.etcd.admin.set_password(PASSWORD)
        for start in TOLD:
            only(daemon, start)


def test_nobody_is_logged_in(fortress: Fortress, tmp_path: Path) -> None:
    """Without a user, Etcd's demand for one is told."""
    nobody = {"TEF_ETCD_USER_DEV": "", "TEF_ETCD_PASSWORD_DEV": ""}
    services = fortress.services()
    with running(fortress.daemon(services, tmp_path, "--etcd-api=v3", **nobody)) as daemon:
        assert "not let in, and no user is set: HTTP 403: permission denied" in only(daemon, TOLD[2])
        quiet(daemon)


# --- PostgreSQL refuses ---


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("sslrootcert", "certificate verify failed"),
        ("sslcert", "alert"),
    ],
)
def test_wrong_files_for_the_database(fortress: Fortress, tmp_path: Path, key: str, text: str) -> None:
    """A wrong CA and a wrong certificate are one line, and healed without a restart."""
    own: Certificates = fortress.postgresql.certificates
    good, bad = {"sslrootcert": (own.ca, own.stranger_ca), "sslcert": (own.named_both, own.stranger_both)}[
        key
    ]
    path = put(tmp_path / "exchanged.pem", bad)
    both = {"sslkey": str(path)} if key == "sslcert" else {}
    services = fortress.services(**{key: str(path)}, **both)
    with running(fortress.daemon(services, tmp_path)) as daemon:
        assert text in only(daemon, "WAITING_FOR|database")
        quiet(daemon, fortress.postgresql.password)
        put(path, good)
        daemon.wait_ready()
        only(daemon, "WAITING_FOR|database")


def test_wrong_host_of_the_database(fortress: Fortress, tmp_path: Path) -> None:
    """A database whose certificate is for another name is not talked to."""
    services = fortress.services()
    services.database.update(host="localhost", hostaddr=HOST)
    with running(fortress.daemon(services, tmp_path)) as daemon:
        text = only(daemon, "WAITING_FOR|database")
        assert 'server certificate for "127.0.0.1" does not match host name "localhost"' in text
        quiet(daemon, fortress.postgresql.password)


def test_no_certificate_for_the_database(fortress: Fortress, tmp_path: Path) -> None:
    """A database that wants a certificate says so."""
    services = fortress.services()
    for key in ("sslcert", "sslkey"):
        services.database.pop(key)
    with running(fortress.daemon(services, tmp_path)) as daemon:
        assert "connection requires a valid client certificate" in only(daemon, "WAITING_FOR|database")
        quiet(daemon, fortress.postgresql.password)


def test_wrong_password_of_the_database(fortress: Fortress, tmp_path: Path) -> None:
    """A wrong password is one line without it; once the database knows it, all goes on."""
    right = fortress.postgresql.password
    with running(fortress.daemon(fortress.services(password=WRONG), tmp_path)) as daemon:
        text = only(daemon, "WAITING_FOR|database")
        assert f'password authentication failed for user "{USER}"' in text
        quiet(daemon, WRONG, right)
        fortress.set_database_password(right, WRONG)
        try:
            daemon.wait_ready()
        finally:
            fortress.set_database_password(WRONG, right)
        only(daemon, "WAITING_FOR|database")


def test_several_servers_that_refuse(fortress: Fortress, tmp_path: Path) -> None:
    """Where there are several, the trouble with each is told once, however often they are tried in turn."""
    services = fortress.services(password=WRONG)
    port = services.database["port"]
    services.database.update(host=f"localhost,{HOST}", hostaddr=f"{HOST},{HOST}", port=f"{port},{port}")
    tls_port = fortress.rabbitmq.tls_port
    urls = {"TEF_AMQP_URL_DEV": f"amqps://localhost:{tls_port},amqps://guest:{WRONG}@{HOST}:{tls_port}"}
    with running(fortress.daemon(services, tmp_path, **urls)) as daemon:
        for start in ("WAITING_FOR|database", "BROKER_WAITING|publisher"):
            first, second = daemon.log.wait(start, 2)
            assert ("localhost" in first, HOST in second) == (True, True)
        quiet(daemon, WRONG)
