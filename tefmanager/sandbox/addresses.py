"""The addresses of the sandbox's servers, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tefmanager.sandbox.postgresql_server import Database


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the servers.

    Attributes:
        amqp_url: RabbitMQ's URL, with user and password.
        database: libpq's keywords for PostgreSQL.
        etcd: host and port for Etcd's clients.
        folder: contains everything of the sandbox, and is removed with it.
    """

    amqp_url: str
    database: Database
    etcd: tuple[str, int]
    folder: Path

    @property
    def database_url(self) -> str:
        """The database's URL, including the password."""
        return "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**self.database)

    @property
    def etcd_url(self) -> str:
        """Etcd's URL."""
        host, port = self.etcd
        return f"http://{host}:{port}"


def describe(addresses: Addresses, env: str = "dev", page: str = "") -> list[str]:
    """Return lines that say how to reach each server: what to export, and clients to try.

    Args:
        addresses: those of the sandbox. Its passwords are in the lines; they open nothing else.
        env: ``dev``, ``test`` or ``prod``, whose variables are exported.
        page: address of the manager's page; empty if there is none.
    """
    suffix = env.upper()
    host, port = addresses.etcd
    return [
        f"Sandbox in {addresses.folder}",
        f"  RabbitMQ    {addresses.amqp_url}",
        f"  PostgreSQL  {addresses.database_url}",
        f"  Etcd        {addresses.etcd_url}",
        *([f"  Page        {page}"] if page else []),
        "For programs that use it:",
        f"  export TEF_ENV={env}",
        f"  export TEF_AMQP_URL_{suffix}={addresses.amqp_url}",
        f"  export TEF_MANAGER_DB_CONFIG={addresses.folder}",
        f"  export TEF_ETCD_HOST_{suffix}={host} TEF_ETCD_PORT_{suffix}={port}",
        "To look inside:",
        f"  psql {addresses.database_url}",
        f"  ETCDCTL_API=3 ETCDCTL_ENDPOINTS={addresses.etcd_url} etcdctl get --prefix /",
        f"  curl {addresses.etcd_url}/v2/keys/tef?recursive=true",
    ]
