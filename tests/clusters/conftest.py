"""Fixtures with one service as a cluster, and the two others on one machine as usual."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tefmanager.sandbox import Programs
from tefmanager.sandbox.machine import Account
from tests.clusters.servers import Brokers, Databases, Etcds

# Log what is measured, but not what the client does.
logging.getLogger("pika").setLevel(logging.WARNING)


class Cluster(Protocol):
    """The common base of all clusters."""

    def __init__(self, reactor: Any, folder: Path, programs: Programs, account: Account) -> None: ...

    async def start(self) -> None:
        """Start its servers."""

    async def stop(self) -> None:
        """Stop its servers."""


C = TypeVar("C", bound=Cluster)


def _running(kind: type[C]) -> Iterator[C]:
    from twisted.internet import reactor  # imported late: pytest-twisted must install the reactor first

    account = Account.unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="tef-cluster-"))
    cluster = kind(reactor, account.make_folder(folder), Programs.find(), account)
    try:
        pytest_twisted.blockon(Deferred.fromCoroutine(cluster.start()))
        yield cluster
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(cluster.stop()))
        shutil.rmtree(folder)


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    """Three RabbitMQ nodes."""
    yield from _running(Brokers)


@pytest.fixture
def etcds() -> Iterator[Etcds]:
    """Three Etcd members."""
    yield from _running(Etcds)


@pytest.fixture
def databases() -> Iterator[Databases]:
    """A PostgreSQL primary and its standby."""
    yield from _running(Databases)
