"""A private RabbitMQ, PostgreSQL and Etcd on free loopback ports, run from Debian's packages."""

from tefmanager.sandbox.addresses import Addresses, describe
from tefmanager.sandbox.machine import Programs
from tefmanager.sandbox.sandbox import Sandbox
from tefmanager.sandbox.server import SandboxError

__all__ = ["Addresses", "Programs", "Sandbox", "SandboxError", "describe"]
