"""The services of integration tests, as fixtures provide them."""

from __future__ import annotations

from dataclasses import dataclass

from tefmanager.sandbox import Addresses, Sandbox
from tefmanager.sandbox.postgresql_server import Database


@dataclass(frozen=True, slots=True)
class Services:
    """A running sandbox, shared by all tests of a session: a test must use names of its own in it.

    Attributes:
        amqp_url: RabbitMQ, vhost ``/``, user guest.
        database: libpq's keywords.
        etcd: host and port; the v2 and the v3 API.
        sandbox: the servers themselves. A test that stops or breaks one uses a sandbox of its own.
    """

    amqp_url: str
    database: Database
    etcd: tuple[str, int]
    sandbox: Sandbox

    @classmethod
    def of(cls, sandbox: Sandbox, addresses: Addresses) -> Services:
        """Return the addresses of a sandbox that was started."""
        return cls(addresses.amqp_url, addresses.database, addresses.etcd, sandbox)
