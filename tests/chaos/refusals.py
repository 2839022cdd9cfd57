"""Faults after which a service runs, but has forgotten something or refuses something."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from shutil import rmtree

import psycopg2
from twisted.internet.threads import deferToThread

from tests.chaos import journal
from tests.chaos.fault import Fault, rest, service
from tests.chaos.grid import LIMITS, Grid
from tests.contract.own_etcd import bring_back, remember

PATIENCE = 5.0
"""Seconds within which healthy managers have accepted everything that was sent."""

# --- a broker without its queues ---


async def lose_queues(grid: Grid, name: str, rng: random.Random) -> None:
    """Reset RabbitMQ to its state after installation. The contents of its queues are recorded before."""
    begin = time.time()
    proxy, server = grid.proxies[name], grid.server(name)
    await proxy.close()
    grid.note_gone(await deferToThread(grid.broker.empty))
    await server.kill()
    rmtree(server.folder / "data")
    await rest(rng.uniform(0.0, 4.0))
    await server.start()
    proxy.open()
    grid.note_down(name, begin)


async def delete_queues(grid: Grid, name: str, rng: random.Random) -> None:
    """Delete all queues while everybody is connected.

    The managers' queue is spared unless everything sent has been read: otherwise nobody could tell which
    messages were lost.
    """
    broker = grid.broker
    grid.sender.freeze()
    try:
        unread = await _unread(grid)
        kept = {broker.manager} if unread is None else set()
        if unread:
            grid.note_gone({broker.manager: unread})
        grid.note_gone({broker.dead: await deferToThread(broker.empty_and_delete, broker.dead)})
        for queue in {broker.manager, broker.rejected, *grid.worker_queues()} - kept:
            await deferToThread(broker.delete, queue)
    finally:
        grid.sender.thaw()


async def _unread(grid: Grid) -> list[str] | None:
    """Wait until all confirmed tasks are read. Return the unconfirmed ones; None if it takes too long."""
    sent = list(journal.read(grid.folder, "sender.jsonl"))
    confirmed = {each["guid"] for each in sent if each["event"] == "confirmed"}
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(psycopg2.Error):  # the database may be broken, too
            known = await deferToThread(grid.known_guids)
            if confirmed <= known:
                return sorted({each["guid"] for each in sent} - known)
        await rest(0.2)
    return None


# --- queues that refuse ---


async def refuse_work(grid: Grid, name: str, rng: random.Random) -> None:
    """Make a worker's queue refuse messages."""
    worker = rng.choice([each for each in grid.workers if each.name])
    await _refuse(grid, worker.queue, rng)


async def refuse_dead(grid: Grid, name: str, rng: random.Random) -> None:
    """Make the dead queue refuse messages."""
    await _refuse(grid, grid.broker.dead, rng)


async def _refuse(grid: Grid, queue: str, rng: random.Random) -> None:
    await deferToThread(grid.broker.refuse, queue)
    await rest(rng.uniform(1.0, 12.0))
    await deferToThread(grid.broker.accept)


# --- a database without room ---


async def fill_database(grid: Grid, name: str, rng: random.Random) -> None:
    """Make PostgreSQL refuse all writes, or some of them."""
    await deferToThread(grid.space.fill, rng)
    await rest(rng.uniform(1.0, 12.0))
    await deferToThread(grid.space.free)


# --- an older Etcd, and missing rights in Etcd ---


async def restore_etcd(grid: Grid, name: str, rng: random.Random) -> None:
    """Restore Etcd to its state some seconds ago. Later changes are kept for the judge."""
    server, proxy = grid.sandbox.etcd, grid.proxies[name]
    await remember(server)
    await rest(rng.uniform(1.0, 12.0))
    await proxy.close()
    grid.changes += await deferToThread(lambda: list(grid.etcd.changes()))
    await bring_back(server)
    proxy.open()


async def forbid_resource(grid: Grid, name: str, rng: random.Random) -> None:
    """Allow the managers only to read one of the resources."""
    resource = rng.choice(sorted(LIMITS))
    await grid.etcd.forbid(resource)
    await rest(rng.uniform(1.0, 12.0))
    await grid.etcd.permit(resource)


REFUSALS = (
    Fault("bring back without its queues", 1.0, service("rabbitmq"), lose_queues),
    Fault("delete all queues of", 1.0, service("rabbitmq"), delete_queues),
    Fault("let a worker's queue refuse at", 1.0, service("rabbitmq"), refuse_work),
    Fault("let the dead queue refuse at", 1.0, service("rabbitmq"), refuse_dead),
    Fault("leave no room for", 1.5, service("postgresql"), fill_database),
    Fault("restore an older", 1.5, service("etcd"), restore_etcd),
    Fault("take a right away at", 1.5, service("etcd"), forbid_resource),
)
