"""Services whose users have exactly the rights in ``docs/security.md``, set up with its commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pika

from tefmanager.sandbox.machine import HOST
from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import compact, fresh
from tests.integration.pages import block
from tests.paths import ROOT
from tests.services import Services

PAGE = ROOT / "docs" / "security.md"
VHOST, DATABASE, PREFIX = "tef", "tef_prod", "tef.prod"
RESOURCE = "licence"
"""The resource that the page names."""

OPTIONS = ("--dispatch-interval=1", "--dispatch-timeout=2", "--etcd-api=v3", "--history-days=0", "--http=")
DATABASE_PASSWORD = "correct horse"


class Administrator:
    """Somebody with all rights at all services who follows the page.

    Args:
        services: used by this administrator alone.
        folder: where commands run, with the password files.
    """

    def __init__(self, services: Services, folder: Path) -> None:
        self.services = services
        self.folder = folder
        self.environment = {**os.environ, **_policy(services, folder)}

    def shell(self, script: str, **variables: str) -> str:
        """Run shell commands, none of which may fail, and return their output."""
        return self._run(["bash", "-euc", script], "", variables)

    def sql(self, script: str, **variables: str) -> str:
        """Run statements in psql, with one password for all of its prompts."""
        path = self.folder / "script.sql"
        path.write_text(script)
        answers = f"{DATABASE_PASSWORD}\n" * 2 * script.count("\\password")
        return self._run(["psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-f", str(path)], answers, variables)

    def _run(self, command: list[str], text: str, variables: dict[str, str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **variables},
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            start_new_session=True,  # without a terminal, psql takes passwords from standard input
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}"
        return done.stdout

    def follow(self, *names: str, **variables: str) -> None:
        """Do what blocks of the page say."""
        for name in names:
            found = block(PAGE, name)
            (self.sql if found.kind == "sql" else self.shell)(found.text, **variables)

    def password(self, name: str) -> str:
        """Return a password from its file."""
        return (self.folder / name).read_text().strip()

    def etcd(self, script: str) -> str:
        """Run etcdctl commands as root."""
        return self.shell(script, ETCDCTL_USER=f"root:{self.password('root.etcd')}")

    def locks(self, api: str) -> str:
        """Return the lock keys of the resource."""
        path = f"/tef/prod/resources/{RESOURCE}/locks"
        if api == "v3":
            return self.etcd(f"etcdctl get --prefix --keys-only {path}/").strip()
        root = f"root:{self.password('root.etcd')}"
        return self.shell(f"etcdctl --username {root} ls {path} || true", ETCDCTL_API="2").strip()

    def permit(self, *rights: str, user: str = "tef-manager") -> None:
        """Set a user's rights to configure, write and read at RabbitMQ."""
        configure, write, read = rights
        self.shell(f"rabbitmqctl -q set_permissions -p {VHOST} {user} '{configure}' '{write}' '{read}'")

    def daemon(
        self, folder: Path, role: str = "tef_manager", *options: str, database: str = DATABASE
    ) -> Daemon:
        """Return a manager that uses the page's user at each service."""
        sandbox = self.services.sandbox
        login = {"dbname": database, "user": role, "password": DATABASE_PASSWORD}
        services = Services(
            f"amqp://{HOST}:{sandbox.rabbitmq.port}/{VHOST}",
            {**self.services.database, **login},
            self.services.etcd,
            sandbox,
        )
        variables = {
            "TEF_AMQP_USER_PROD": "tef-manager",
            "TEF_AMQP_PASSWORD_PROD": self.password("tef-manager.amqp"),
            "TEF_ETCD_USER_PROD": "tef-manager",
            "TEF_ETCD_PASSWORD_PROD": self.password("tef-manager.etcd"),
        }
        daemon = Daemon(services, folder, "rights", *OPTIONS, *options, env="prod", variables=variables)
        daemon.prefix = PREFIX
        return daemon

    def party(self, user: str) -> Party:
        """Return another program of the grid."""
        return Party(self.services.sandbox.rabbitmq.port, user, self.password(f"{user}.amqp"))

    def messages(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 if it does not exist."""
        told = self.shell(f"rabbitmqctl -q list_queues -p {VHOST} --no-table-headers name messages_ready")
        counts = dict(line.split() for line in told.splitlines())
        return int(counts.get(queue, 0))


def _policy(services: Services, folder: Path) -> dict[str, str]:
    """Return the variables by which commands find the services, and do all they are asked to."""
    broker, database = services.sandbox.rabbitmq, services.database
    programs = folder / "programs"
    programs.mkdir()
    own = {**broker.environment(), "HOME": str(broker.folder), "RUNNING_UNDER_SYSTEMD": ""}
    exports = "".join(f"export {name}='{value}'\n" for name, value in own.items())
    rabbitmqctl = programs / "rabbitmqctl"
    rabbitmqctl.write_text(
        f'#!/bin/sh\n{exports}exec /usr/lib/rabbitmq/bin/rabbitmqctl -n {broker.node} "$@"\n'
    )
    rabbitmqctl.chmod(0o755)
    host, port = services.etcd
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(database["host"]),
        "PGPORT": str(database["port"]),
        "PGDATABASE": str(database["dbname"]),
        "PGUSER": str(database["user"]),
        "PGPASSWORD": str(database["password"]),
        "ETCDCTL_API": "3",
        "ETCDCTL_ENDPOINTS": f"http://{host}:{port}",
    }


class Party:
    """A program of the grid that logs in as one of the page's users at RabbitMQ, or in another vhost."""

    def __init__(self, port: int, user: str, password: str, vhost: str = VHOST) -> None:
        login = pika.PlainCredentials(user, password)
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(HOST, port, vhost, login, heartbeat=0)
        )
        self.channel = self.connection.channel()

    def send(self, reply_to: str | None = None, **message: Any) -> None:
        """Publish a message to the manager."""
        properties = pika.BasicProperties(delivery_mode=2, reply_to=reply_to, correlation_id="1")
        self.channel.basic_publish("", f"{PREFIX}.manager", compact(message), properties)

    def take(self, queue: str) -> bytes:
        """Wait for a message in a queue, and return its body."""
        found: list[bytes] = []

        def came() -> bool:
            method, _, body = self.channel.basic_get(queue, auto_ack=True)
            if method is not None:
                found.append(body)
            return bool(found)

        until(came, f"a message in {queue}")
        return found[0]


class Worker:
    """A worker as in the field, as far as its rights allow."""

    def __init__(self, party: Party, host: str = "host") -> None:
        self._party = party
        self.name = fresh("worker")
        self.worker_type = fresh("type")
        self.queue = f"{PREFIX}.worker.{host}.{self.name}"
        party.channel.queue_declare(f"{PREFIX}.manager", durable=True)
        party.channel.queue_declare(self.queue, durable=True)
        self.exchange_name = self.queue

    def move_to_exchange(self) -> None:
        """Receive tasks through an exchange from now on."""
        self.exchange_name = f"{PREFIX}.worker.exchange.{self.name}"
        self._party.channel.exchange_declare(self.exchange_name, "topic", durable=True)
        self._party.channel.queue_bind(self.queue, self.exchange_name, "#")

    def say(self, *statuses: str) -> None:
        """Publish statuses one after the other."""
        about = {"name": self.name, "worker_type": self.worker_type}
        for status in statuses:
            self._party.send(type="worker_status", **about, exchange_name=self.exchange_name, status=status)

    def take(self) -> bytes:
        """Wait for a task."""
        return self._party.take(self.queue)

    def work(self) -> None:
        """Do a task if there is one."""
        if self._party.channel.basic_get(self.queue, auto_ack=True)[0] is not None:
            self.say("working", "task_complete", "idle")


def alternatives(expression: str, name: str) -> str:
    """Return a regular expression from RabbitMQ without one of the names that it matches."""
    assert re.search(expression, name), f"{expression} does not match {name}"
    return f"(?!^{re.escape(name)}$){expression}"


def permissions(user: str) -> list[str]:
    """Return what the page allows a user to configure, write and read."""
    [found] = re.findall(
        rf"^rabbitmqctl set_permissions -p {VHOST} {user} '(.*)' '(.*)' '(.*)'$",
        PAGE.read_text(),
        re.MULTILINE,
    )
    return list(found)


def grants() -> list[tuple[str, str]]:
    """Return (privilege, table) for everything that the page grants to the manager's role."""
    lines = re.findall(
        r"^grant (.*) on (\w+) to tef_manager;$", block(PAGE, "postgresql-grants").text, re.MULTILINE
    )
    return [(privilege, table) for privileges, table in lines for privilege in privileges.split(", ")]
