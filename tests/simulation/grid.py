"""Everything a story needs: services, managers, workers, other programs; and the story told."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from tefmanager.core.attempts import Limits
from tefmanager.effector import Queues
from tefmanager.manager import Manager, Ways
from tests.fakes.reservations import FakeEtcd
from tests.fakes.store import Breaks, FakeDatabase
from tests.simulation.adapters import SimReservations, SimStore
from tests.simulation.broker import Broker, SimConsumer, SimPublisher
from tests.simulation.observer import Observer
from tests.simulation.story import DURATION, RESOURCES, SUITES, TYPES, WORKERS, Step
from tests.simulation.workers import SimWorker
from tests.simulation.world import Process, World

QUEUE = "tef.manager"

MENDING = 900.0
"""Seconds that everyone has, once all is mended, to finish what is left."""

WAYS = Ways(
    limits=Limits(time_limit=60.0, patience=20.0),
    queues=Queues(QUEUE.encode(), b"dead", b"rejected"),
)


class Grid:
    """A grid in a world of its own.

    Args:
        seed: decides all that the story leaves open, such as how long each message is under way.
        managers: how many processes of the manager there are; one is active.
    """

    def __init__(self, seed: int, managers: int = 1) -> None:
        self.world = World(seed)
        self.broker = Broker(self.world)
        for queue in (QUEUE, "dead", "rejected"):
            self.broker.declare(queue)
        self.etcd = FakeEtcd({f"{name}/ref_limit": str(limit) for name, limit in RESOURCES.items()})
        self.database = FakeDatabase()
        self.observer = Observer(self.etcd, self.database)
        self.managers: list[tuple[Process, Manager, SimReservations]] = []
        self.fatal: list[str] = []
        self.stopped = False
        self._held = 0
        self._born = 0
        for _ in range(managers):
            self.start_manager()
        self.workers = [self._worker(f"w{number}", number) for number in range(WORKERS)]
        for worker in self.workers:
            worker.start()

    def start_manager(self) -> None:
        """Start a process of the manager."""
        self._born += 1
        process = Process(self.world, f"manager{self._born}")
        reservations = SimReservations(self.etcd, process, "tef")
        manager = Manager(
            process,
            process.clocks,
            SimStore(self.database, process),
            SimConsumer(self.broker, process, QUEUE),
            SimPublisher(self.broker, process),
            reservations.anew,
            WAYS,
            self.fatal.append,
        )
        self.managers.append((process, manager, reservations))
        manager.startService()

    def _worker(self, name: str, number: int) -> SimWorker:
        return SimWorker(
            self.world,
            self.broker,
            QUEUE,
            name,
            TYPES[number % len(TYPES)],
            ruby=number < WORKERS // 2 + 1,
            on_start=self.observer.started,
            on_result=self.observer.result,
        )

    # --- the story ---

    def tell(self, story: list[Step]) -> list[str]:
        """Let a story happen, mend everything, and return what went wrong."""
        for step in story:
            self.world.clock.callLater(step.at, getattr(self, step.what), *step.details)
        self.world.run(DURATION)
        self.mend()
        self.world.run(MENDING)
        violations = self.observer.judge(self._names(), self.stopped)
        return violations + [f"a manager gave up: {reason}" for reason in self.fatal]

    def end(self) -> None:
        """Let all processes go, so that nothing is left of this world."""
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
        """Make everything work again that can."""
        self.observer.mended = self.world.time
        self.broker.start()
        self.database.come_back()
        for process, _, reservations in self.managers:
            if process.alive and process.frozen:
                process.thaw()
            if not reservations.up:
                reservations.come_back()
        for worker in self.workers:
            worker.stuck = False
            worker.start()
        for suite in filter(None, SUITES):
            self._control("ready_suite", suite)
        self._control("set_state", "running")

    # --- its steps ---

    def submit(
        self,
        guid: str,
        task_type: str,
        priority: float,
        names: tuple[str, ...],
        suite: str | None,
        seconds: float,
    ) -> None:
        """A sender publishes a task until the broker has it."""
        if not self.broker.up:
            self.world.later(0.5, 2.0, self.submit, guid, task_type, priority, names, suite, seconds)
            return
        message = {
            "type": "task",
            "guid": guid,
            "task_type": task_type,
            "priority": priority,
            "resources": list(names),
            "suite_guid": suite,
            "task_data": {"seconds": seconds},
        }
        self.broker.put(QUEUE, json.dumps(message).encode())
        self.observer.submitted[guid] = task_type

    def _control(self, kind: str, data: str) -> None:
        self.broker.put(QUEUE, json.dumps({"type": kind, "data": data}).encode())

    def kill_manager(self, seconds: float) -> None:
        """Kill the process that has reigned last; another starts after a while."""
        alive = [entry for entry in self.managers if entry[0].alive]
        if alive:
            self.world.chance.choice(alive)[0].kill()
            self.world.later(seconds, seconds, self.start_manager)

    def freeze_manager(self, seconds: float) -> None:
        """A machine sleeps: the services drop its connections after a while."""
        alive = [entry for entry in self.managers if entry[0].alive and not entry[0].frozen]
        if not alive:
            return
        process, _, _ = self.world.chance.choice(alive)
        process.freeze()
        self.world.later(seconds, seconds, process.thaw)
        if seconds > 10.0:
            self.world.later(10.0, 12.0, self._drop, process)

    def _drop(self, process: Process) -> None:
        if process.frozen and process.alive:
            self.broker.break_links()
            self.database.rows.epoch += 0
            self.session_dies()

    def break_links(self) -> None:
        """Every connection to RabbitMQ breaks."""
        self.broker.break_links()

    def break_one_link(self) -> None:
        """One of them does."""
        self.broker.break_one()

    def broker_away(self, seconds: float) -> None:
        """RabbitMQ is down."""
        self.broker.stop()
        self.world.later(seconds, seconds, self.broker.start)

    def database_away(self, seconds: float) -> None:
        """PostgreSQL is down."""
        self.database.go_away("the database is down")
        self.world.later(seconds, seconds, self.database.come_back)

    def session_dies(self) -> None:
        """The database ends all sessions."""
        self.database.go_away("the session was killed")
        self.database.come_back()

    def commit_lost(self, when: str) -> None:
        """The next commit loses its session."""
        self.database.breaks = Breaks.BEFORE if when == "before" else Breaks.AFTER

    def etcd_away(self, seconds: float) -> None:
        """Etcd is down."""
        for _, _, reservations in self.managers:
            reservations.lose()
            self.world.later(seconds, seconds, reservations.come_back)

    def kill_worker(self, number: int, seconds: float) -> None:
        """A worker dies; a Ruby one comes back under its name, another one under a new name."""
        worker = self.workers[number]
        if not worker.alive:
            return
        worker.kill()
        if not worker.ruby:
            self._born += 1
            self.workers[number] = self._worker(f"w{number}.{self._born}", number)
        self.world.later(seconds, seconds, self.workers[number].start)

    def stick_worker(self, number: int, seconds: float) -> None:
        """A worker hangs for a while, and goes on."""
        worker = self.workers[number]
        worker.stuck = True
        self.world.later(seconds, seconds, self._unstick, worker)

    def _unstick(self, worker: SimWorker) -> None:
        worker.stuck = False
        worker._look()

    def worker_gives_up(self, number: int) -> None:
        """A Ruby worker drops its next task without a result."""
        self.workers[number].give_up_next = True

    def worker_leaves(self, number: int, seconds: float) -> None:
        """A worker says goodbye; another comes later."""
        worker = self.workers[number]
        if worker.alive:
            worker.leave()
            self._born += 1
            self.workers[number] = self._worker(f"w{number}.{self._born}", number)
            self.world.later(seconds, seconds, self.workers[number].start)

    def worker_queue_lost(self, number: int) -> None:
        """Somebody deletes a worker's queue, and the worker makes it again at its next restart."""
        self.broker.queues.pop(self.workers[number].name, None)
        self.kill_worker(number, 5.0)

    def foreign_take(self, name: str, seconds: float) -> None:
        """Another program takes a reference, if there is one, and gives it back."""
        count = int(self.etcd.keys.get(f"{name}/ref_count", "0"))
        if count < int(self.etcd.keys[f"{name}/ref_limit"]):
            self._held += 1
            lock = f"{name}/locks/other:{self._held}~1~{count + 1}"
            self.etcd.set(lock, str(count + 1))
            self.etcd.set(f"{name}/ref_count", str(count + 1))
            self.world.later(seconds, seconds, self._foreign_give, name, lock)

    def _foreign_give(self, name: str, lock: str) -> None:
        self.etcd.delete(lock)
        self.etcd.set(f"{name}/ref_count", str(int(self.etcd.keys[f"{name}/ref_count"]) - 1))

    def foreign_limit(self, name: str, seconds: float) -> None:
        """An operator closes a resource for a while."""
        self.etcd.set(f"{name}/ref_limit", "0")
        self.world.later(seconds, seconds, self.etcd.set, f"{name}/ref_limit", str(RESOURCES[name]))

    def pause_suite(self, suite: str, seconds: float) -> None:
        """An operator pauses a suite."""
        self._control("pause_suite", suite)
        self.world.later(seconds, seconds, self._control, "ready_suite", suite)

    def set_state(self, state: str, seconds: float) -> None:
        """An operator pauses the manager."""
        self._control("set_state", state)
        self.world.later(seconds, seconds, self._control, "set_state", "running")

    def stop_suite(self, suite: str) -> None:
        """An operator stops a suite."""
        self.stopped = True
        self._control("stop_suite", suite)

    def foreign_leak(self) -> None:
        """Somebody leaves a lock key behind: only for trying the observer."""
        self.etcd.set("db/locks/other:leak~1~1", "1")
