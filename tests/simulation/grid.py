"""Everything that a story needs (services, managers, workers, observers), and the play itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred

from tefmanager.core.model.limits import Limits, Memory
from tefmanager.interfaces.policy import Policy, Queues
from tefmanager.logfile.emit import emit
from tefmanager.protocol.catalogue import LoggedEvent
from tefmanager.service.manager import Manager
from tefmanager.support.lease import Lease
from tefmanager.support.outages import NOT_YET, Outages, Service
from tests.fakes.reservations import FakeEtcd
from tests.fakes.store import FakeDatabase
from tests.simulation.adapters import LEASE, SimStore
from tests.simulation.broker import Broker
from tests.simulation.etcd import SimReservations
from tests.simulation.faults import QUEUE, Faults
from tests.simulation.hands import Hands
from tests.simulation.judge import INTERVAL, LOOK, Judge
from tests.simulation.knobs import Knobs, knobs
from tests.simulation.limits import Limits as LimitSteps
from tests.simulation.links import SimConsumer, SimPublisher
from tests.simulation.observer import Observer
from tests.simulation.silence import Silence
from tests.simulation.story import (
    CROWDED,
    DURATION,
    LIMITS,
    SUITES,
    TYPES,
    WORKERS,
    Step,
    crowded,
)
from tests.simulation.verdicts import Verdicts
from tests.simulation.voices import Voice
from tests.simulation.workers import SimWorker
from tests.simulation.world import Process, World

PREFIX = "tef"

MENDING = 900.0
"""Seconds that remain after all faults are mended to finish all work."""

MOST_ATTEMPTS = (5, 3)
"""The number of attempts after which a task is dead: in half of the grids, and in the other half."""


LITTLE = (Memory(tasks=0, first=1, most=2), Memory(tasks=5, first=2, most=4))
"""How much of the backlog is in memory in crowded grids."""


class Grid(Faults, Hands, LimitSteps):
    """A grid in a world of its own.

    Args:
        seed: decides everything that the story leaves open, such as how long each message takes.
        managers: number of manager processes, one of which is active.
        set_up: the grid's knobs; None: the seed decides.
    """

    def __init__(self, seed: int, managers: int = 1, set_up: Knobs | None = None) -> None:
        self.world = World(seed)
        self._seed = seed
        self.knobs = knobs(seed) if set_up is None else set_up
        self.broker = Broker(self.world)
        for queue in (QUEUE, "dead", "rejected"):
            self.broker.declare(queue)
        self.etcd = FakeEtcd({f"{name}/ref_limit": str(limit) for name, limit in LIMITS.items()})
        self.database = FakeDatabase()
        self.observer = Observer(self.etcd.keys, lambda: self.world.time, QUEUE)
        self.etcd.watch(self.observer.key_changed)
        self.broker.audit = partial(self.observer.put, self.broker)
        most = MOST_ATTEMPTS[seed % 3 == 0]
        memory = LITTLE[seed // CROWDED % 2] if crowded(seed) else Memory()
        limits = Limits(time_limit=60.0, patience=20.0, max_attempts=most, memory=memory)
        limits = replace(limits, **self.knobs.limits)
        self.policy = Policy(
            limits=limits,
            queues=Queues(QUEUE.encode(), b"dead", b"rejected"),
            dispatch_interval=INTERVAL,
            read_interval=INTERVAL,
        )
        common = (self.observer, self.etcd.keys, self.database, self.broker)
        self.judge = Judge(*common, PREFIX, QUEUE, self.policy.limits.max_attempts)
        self.judge.time_limit = self.policy.limits.time_limit
        self.verdicts = Verdicts(self.observer, self.database, self.broker)
        self.observer.committed = self.verdicts.committed
        self.mended: float | None = None
        self.managers: list[tuple[Process, Manager, SimReservations]] = []
        self.silence = Silence(self.observer, self.broker, self.database, self.world.hangs, self.managers)
        self.world.mended = self.silence.mended
        self.fatal: list[str] = []
        self.stopped: set[str] = set()
        self._born = 0
        for _ in range(managers):
            self._start_manager()
        self.start_manager = self._start_manager
        self.new_worker = self._new_worker
        self.workers = [self._worker(f"w{number}", number) for number in range(WORKERS)]
        for worker in self.workers:
            worker.start()

    def _start_manager(self) -> None:
        self._born += 1
        process = Process(self.world, f"manager{self._born}")
        lease = Lease(LEASE, lambda: self.world.time)
        reservations = SimReservations(self.etcd, process, PREFIX, lease, self.observer)
        outages = Outages(process.clocks, partial(self._told, process))
        consumer = SimConsumer(self.broker, process, QUEUE)
        consumer.prefetch = self.knobs.prefetch or consumer.prefetch
        publisher = SimPublisher(self.broker, process, lease, self.observer)
        consumer.tell = partial(_connection, outages, Service.CONSUMER)
        outages.began(Service.PUBLISHER, NOT_YET, quiet=True)
        publisher.tell = partial(_connection, outages, Service.PUBLISHER)
        publisher.tell_blocked = partial(_connection, outages, Service.BLOCKED)
        manager = Manager(
            process,
            process.clocks,
            SimStore(self.database, process, lease, self.observer),
            consumer,
            publisher,
            reservations.anew,
            self.policy,
            self.fatal.append,
            outages,
        )
        self.managers.append((process, manager, reservations))
        manager.startService()

    def _told(self, process: Process, line: LoggedEvent) -> None:
        self.silence.heard(process, line)
        emit(line)

    def _new_worker(self, number: int, old: str | None) -> SimWorker:
        self._born += 1
        return self._worker(f"w{number}.{self._born}", number)

    def _worker(self, name: str, number: int) -> SimWorker:
        voice = Voice(self._seed, name)
        if voice.limits:
            self.judge.ending.add(name)
        return SimWorker(
            self.world,
            self.broker,
            QUEUE,
            name,
            TYPES[number % len(TYPES)],
            ruby=number < WORKERS // 2 + 1 and not self.knobs.readme,
            on_start=self.observer.started,
            voice=voice,
            on_result=self.observer.result,
            on_said=self.observer.said.append,
            on_crash=lambda worker: self.kill_worker(number, 5.0),
        )

    # --- the story ---

    def tell(self, story: list[Step], *, duration: float = DURATION, mending: float = MENDING) -> list[str]:
        """Play a story, mend all faults, and return what went wrong."""
        for step in story:
            self.world.clock.callLater(step.at, getattr(self, step.what), *step.details)
        self._look()
        self.world.run(duration)
        self.mend()
        self.world.run(mending)
        self.judge.judge(self._names(), self.stopped)
        self.verdicts.judge(self.world.time)
        return [*self.observer.violations, *(f"a manager gave up: {reason}" for reason in self.fatal)]

    def _look(self) -> None:
        self.judge.look(self.world.time, self.mended, self.workers)
        self.silence.look(self.world.time)
        self.world.clock.callLater(LOOK, self._look)

    def end(self) -> None:
        """End all processes, so that nothing remains of this world."""
        for process, manager, _ in self.managers:
            if process.alive:
                Deferred.fromCoroutine(self._stop(manager))
        self.world.run(30.0)

    async def _stop(self, manager: Manager) -> None:
        await manager.stopService()

    def _names(self) -> dict[str, set[str]]:
        names: dict[str, set[str]] = {worker_type: set() for worker_type in TYPES}
        for worker in self.workers:
            names[worker.worker_type].add(worker.name)
        return names

    def mend(self) -> None:
        """Mend everything that can be mended."""
        self.mended = self.world.time
        self.world.delays.clear()
        self.world.wrong = 0.0
        self.world.speak("database")
        self.broker.start()
        self.broker.unblock()
        self.broker.go_on()
        self.broker.full.clear()
        self.broker.forbidden.clear()
        self.database.come_back()
        self.database.breaks = self.database.full = None
        self.etcd.usual_limits()
        self.permit_all()
        while self.absent:
            self.come_back()
        for process, _, reservations in self.managers:
            process.be_well()
            if process.cut:
                process.reconnect()
            if process.frozen:
                process.thaw()
            reservations.come_back()
        for worker in self.workers:
            worker.start()
            worker.rejoin()
            self._unstick(worker)
        for suite in filter(None, SUITES):
            self.control("ready_suite", suite)
        self.control("set_state", "running")


def _connection(outages: Outages, service: Service, fault: str) -> None:
    """Record that a connection is established, or what is wrong with it."""
    if fault:
        outages.began(service, fault, quiet=True)
    else:
        outages.over(service)
