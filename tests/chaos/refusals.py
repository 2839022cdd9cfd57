"""Faults after which a service is there, and has forgotten something or refuses it."""

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
"""Seconds in which managers have taken in all that was sent, if they are well."""

# --- a broker without its queues ---


async def lose_queues(grid: Grid, name: str, rng: random.Random) -> None:
    """Let RabbitMQ come back as it was installed. What its queues had is written down before."""
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

    That of the managers is spared unless all that was sent was read: nobody can tell what is under way.
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
    """Wait until all that was confirmed was read. Return what was only sent; None if it takes long."""
    sent = list(journal.read(grid.folder, "sender.jsonl"))
    confirmed = {each["guid"] for each in sent if each["event"] == "confirmed"}
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(psycopg2.Error):  # it may be broken, too
            known = await deferToThread(grid.known_guids)
            if confirmed <= known:
                return sorted({each["guid"] for each in sent} - known)
        await rest(0.2)
    return None


# --- queues that refuse ---


async def refuse_work(grid: Grid, name: str, rng: random.Random) -> None:
    """Let a worker's queue take nothing."""
    worker = rng.choice([each for each in grid.workers if each.name])
    await _refuse(grid, worker.queue, rng)


async def refuse_dead(grid: Grid, name: str, rng: random.Random) -> None:
    """Let the dead queue take nothing."""
    await _refuse(grid, grid.broker.dead, rng)


async def _refuse(grid: Grid, queue: str, rng: random.Random) -> None:
    await deferToThread(grid.broker.refuse, queue)
    await rest(rng.uniform(1.0, 12.0))
    await deferToThread(grid.broker.accept)


# --- a database without room ---


async def fill_database(grid: Grid, name: str, rng: random.Random) -> None:
    """Let PostgreSQL refuse what is to be written, or some of it."""
    await deferToThread(grid.space.fill, rng)
    await rest(rng.uniform(1.0, 12.0))
    await deferToThread(grid.space.free)


# --- an Etcd that is older, and one that does not let everybody do everything ---


async def restore_etcd(grid: Grid, name: str, rng: random.Random) -> None:
    """Bring back what Etcd had some seconds ago. What happened since is kept for the judge."""
    server, proxy = grid.sandbox.etcd, grid.proxies[name]
    await remember(server)
    await rest(rng.uniform(1.0, 12.0))
    await proxy.close()
    grid.changes += await deferToThread(lambda: list(grid.etcd.changes()))
    await bring_back(server)
    proxy.open()


async def forbid_resource(grid: Grid, name: str, rng: random.Random) -> None:
    """Let the managers only read one of the resources."""
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
