"""The steps of a story: actions of senders, operators and other programs, and faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import takewhile

from tefmanager.interfaces.policy import Policy
from tefmanager.service.manager import Manager
from tests.fakes.reservations import FakeEtcd
from tests.fakes.store import Breaks, FakeDatabase
from tests.simulation.broker import Broker, Stored
from tests.simulation.etcd import SimReservations
from tests.simulation.judge import Judge
from tests.simulation.knobs import Knobs
from tests.simulation.observer import Observer
from tests.simulation.story import LATER, LIMITS, TYPES
from tests.simulation.workers import DEADLY, MOST_SAID, SimWorker
from tests.simulation.world import Fate, Process, World

QUEUE = "tef.manager"

DEAD_PEER = (10.0, 15.0)
"""Least and most seconds until RabbitMQ drops a silent client."""

LONGEST_PAUSE = 60.0
"""The longest pause before something that Etcd has refused is tried again, in seconds."""

SLOW = (0.2, 1.5)
"""Least and most seconds that a message to or from a slow service takes."""


def _is_ours(path: str) -> bool:
    """Tell whether a key is one of the manager's references."""
    return "/locks/tef:" in path


class Faults:
    """Each method whose arguments are plain values is a step that can occur in a story."""

    world: World
    broker: Broker
    etcd: FakeEtcd
    database: FakeDatabase
    observer: Observer
    judge: Judge
    policy: Policy
    knobs: Knobs
    managers: list[tuple[Process, Manager, SimReservations]]
    workers: list[SimWorker]
    stopped: set[str]
    start_manager: Callable[[], None]
    new_worker: Callable[[int, str | None], SimWorker]
    absent = 0
    _held = 0

    # --- senders and operators ---

    def submit(
        self,
        guid: str,
        task_type: str,
        priority: float,
        names: tuple[str, ...],
        suite: str | None,
        seconds: float,
    ) -> None:
        """A sender publishes a task, again and again until the broker has it."""
        if not self.broker.up or self.broker.blocked:
            again = (guid, task_type, priority, names, suite, seconds)
            self.world.later(0.5, 2.0, self.submit, *again)
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
        body = json.dumps(message).encode()
        self.observer.confirmed(guid, task_type, body)
        self._send(body)

    def _send(self, body: bytes) -> None:
        """Publish to the manager's queue; every program declares that queue if it does not exist."""
        self.broker.declare(QUEUE)
        self.broker.put(QUEUE, body)

    def submit_deadly(self, guid: str, task_type: str) -> None:
        """A sender publishes a task that kills its worker; ignored if it would kill workers for ever."""
        if not self.policy.limits.max_attempts:
            return
        self.submit(guid, task_type, 1.0, ("server",), None, DEADLY)

    def submit_again(self, guid: str) -> None:
        """A sender that did not see the confirm publishes its task again."""
        body = self.observer.bodies.get(guid)
        if body is not None and self.broker.up and not self.broker.blocked:
            self.observer.confirmed(guid, self.observer.submitted[guid], body)
            self._send(body)

    def send_garbage(self, text: str) -> None:
        """A program sends something that is no task."""
        self.observer.garbage.append(text.encode())
        self._send(text.encode())

    def control(self, kind: str, data: str) -> None:
        """Somebody sends a control message."""
        self._send(json.dumps({"type": kind, "data": data}).encode())

    def pause_suite(self, suite: str, seconds: float) -> None:
        """An operator pauses a suite."""
        self.control("pause_suite", suite)
        self.world.later(seconds, seconds, self.control, "ready_suite", suite)

    def set_state(self, state: str, seconds: float) -> None:
        """An operator pauses the manager."""
        self.control("set_state", state)
        self.world.later(seconds, seconds, self.control, "set_state", "running")

    def stop_suite(self, suite: str) -> None:
        """An operator stops a suite."""
        self.stopped.add(suite)
        self.control("stop_suite", suite)

    # --- managers ---

    def _some_manager(self) -> Process | None:
        alive = [process for process, _, _ in self.managers if process.alive and not process.frozen]
        return self.world.chance.choice(alive) if alive else None

    def _replace(self, seconds: float) -> None:
        self.absent += 1
        self.world.later(seconds, seconds, self.come_back)

    def come_back(self) -> None:
        """Start a manager in place of one that was killed, unless that has happened already."""
        if self.absent:
            self.absent -= 1
            self.start_manager()

    def kill_manager(self, seconds: float) -> None:
        """A manager is killed; another one starts after a while."""
        process = self._some_manager()
        if process is not None:
            process.deaths.append(partial(self._replace, seconds))
            process.kill()

    def kill_at_step(self, steps: int, seconds: float) -> None:
        """A manager is killed at one of its next steps; another one starts after a while."""
        process = self._some_manager()
        if process is not None:
            process.deaths.append(partial(self._replace, seconds))
            process.after(steps, process.kill)

    def disturb_at_step(self, steps: int, fate: str) -> None:
        """One of a manager's next requests fails: before it is carried out, or before it is answered."""
        process = self._some_manager()
        if process is not None:
            process.disturb_after(steps, Fate[fate])

    def freeze_manager(self, seconds: float) -> None:
        """A manager freezes for a while; the services drop it."""
        process = self._some_manager()
        if process is not None:
            self._freeze(process, seconds)

    def freeze_at_step(self, steps: int, seconds: float) -> None:
        """A manager freezes at one of its next steps."""
        process = self._some_manager()
        if process is not None:
            process.after(steps, partial(self._freeze, process, seconds))

    def _freeze(self, process: Process, seconds: float) -> None:
        process.freeze()
        self.world.later(seconds, seconds, process.thaw)
        self.world.later(*DEAD_PEER, self._drop, process)

    def cut_off_manager(self, seconds: float) -> None:
        """A manager loses its network for a while."""
        process = self._some_manager()
        if process is not None:
            self._cut_off(process, seconds)

    def cut_off_at_step(self, steps: int, seconds: float) -> None:
        """A manager loses its network at one of its next steps."""
        process = self._some_manager()
        if process is not None:
            process.after(steps, partial(self._cut_off, process, seconds))

    def _cut_off(self, process: Process, seconds: float) -> None:
        process.cut_off()
        self.world.later(seconds, seconds, process.reconnect)
        self.world.later(*DEAD_PEER, self._drop, process)

    def _drop(self, process: Process) -> None:
        if process.frozen or process.cut:
            self.broker.break_links(process)

    # --- RabbitMQ ---

    def break_links(self) -> None:
        """All connections to RabbitMQ break."""
        self.broker.break_links()

    def break_one_link(self) -> None:
        """One connection to RabbitMQ breaks."""
        self.broker.break_one()

    def broker_away(self, seconds: float) -> None:
        """RabbitMQ is down."""
        self.broker.stop()
        self.world.later(seconds, seconds, self.broker.start)

    def broker_blocked(self, seconds: float) -> None:
        """RabbitMQ has no disk space: it accepts no messages, but delivers some."""
        self.broker.block()
        self.world.later(seconds, seconds, self.broker.unblock)

    def dead_queue_lost(self) -> None:
        """Somebody deletes the dead queue and its contents."""
        copies = self.broker.queues.get("dead", ())
        self.broker.destroyed.update(message.headers.get("x-tef-task") for message in copies)
        self.broker.delete("dead")

    def settle_dead_tasks(self, how: str) -> None:
        """An operator retries or drops all dead tasks that have no suite, twice."""
        rows = self.database.rows.history.values()
        dead = [task.row.spec for task in rows if task.outcome == "dead" and not task.settled]
        guids = sorted({spec.guid for spec in dead if spec.suite is None})
        for _ in range(2):
            self.observer.sent.update(guids if how == "retry_dead" else ())
            body = json.dumps({"type": how, "data": {"guids": guids}}).encode()
            self._send(body)
        self.judge.to_settle.update(dict.fromkeys((spec.id for spec in dead if spec.suite is None), body))

    def broker_hangs(self, seconds: float) -> None:
        """RabbitMQ accepts everything and delivers nothing."""
        self.broker.hang()
        self.world.later(seconds, seconds, self.broker.go_on)

    # --- PostgreSQL, Etcd ---

    def database_away(self, seconds: float) -> None:
        """PostgreSQL is down."""
        self.database.go_away("the database is down")
        self.world.later(seconds, seconds, self._database_back)

    def _database_back(self) -> None:
        self.database.come_back()
        self.world.mended()

    def database_silent(self, seconds: float) -> None:
        """PostgreSQL hangs, with all its connections."""
        self.world.silence("database")
        self.world.later(seconds, seconds, self.world.speak, "database")

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

    def etcd_restored(self, seconds: float) -> None:
        """Somebody takes a snapshot of Etcd and restores it later: references are as they were then.

        Other programs repair theirs at once, and operators their settings.
        """
        then = {path: value for path, value in self.etcd.keys.items() if "/locks/" in path}
        self.world.later(seconds, seconds, self._restore, then)

    def _restore(self, then: dict[str, str]) -> None:
        now = self.etcd.keys
        keys = {path: value for path, value in now.items() if not _is_ours(path)}
        keys |= {path: value for path, value in then.items() if _is_ours(path)}
        for name in {path.partition("/")[0] for path in keys}:
            count = sum(path.startswith(f"{name}/locks/") for path in keys)
            if count or f"{name}/ref_count" in keys:
                keys[f"{name}/ref_count"] = str(count)
        self.etcd.restore(keys)
        self.observer.restored()

    def etcd_denied(self, name: str, seconds: float) -> None:
        """Somebody takes away the manager's right to change a resource, for so long; 0: for ever."""
        others = {path.partition("/")[0] for path in self.etcd.keys} | {LATER}
        self.etcd.writable = {f"{other}/" for other in others - {name}}
        if seconds:
            self.judge.delay = LONGEST_PAUSE
            self.world.later(seconds, seconds, self.permit_all)
        else:
            self.judge.denied.add(name)

    def permit_all(self) -> None:
        """The manager may change all resources, except those that it may never change."""
        if not self.judge.denied:
            self.etcd.writable = None

    def slow(self, service: str, seconds: float) -> None:
        """Everything to and from a service takes long: messages of others overtake it."""
        self.world.delays[service] = SLOW
        self.world.later(seconds, seconds, self.world.delays.pop, service, None)

    # --- workers ---

    def kill_worker(self, number: int, seconds: float) -> None:
        """A worker dies; a Ruby worker comes back under its name, any other under a new name."""
        worker = self.workers[number]
        if worker.alive:
            worker.kill()
            if not worker.ruby:
                self.workers[number] = self.new_worker(number, worker.name)
            self.world.later(seconds, seconds, self.workers[number].start)

    def worker_reconnects(self, number: int, seconds: float) -> None:
        """A worker loses its connection, continues its task, and sends its messages later."""
        worker = self.workers[number]
        worker.away = True
        self.world.later(seconds, seconds, self._reconnected, worker)

    def _reconnected(self, worker: SimWorker) -> None:
        worker.away = False
        worker.look()

    def worker_fetches(self, number: int) -> None:
        """A worker consumes its queue only until it has a message."""
        self.workers[number].fetches = True

    def new_free_worker(self, worker_type: str) -> None:
        """Another worker of a type joins."""
        number = TYPES.index(worker_type) + len(TYPES) * len(self.workers)
        worker = self.new_worker(number, None)
        self.workers.append(worker)
        worker.start()

    def stick_worker(self, number: int, seconds: float) -> None:
        """A worker hangs for a while, then continues."""
        self.workers[number].stuck = True
        self.world.later(seconds, seconds, self._unstick, self.workers[number])

    def hang_worker(self, number: int, seconds: float) -> None:
        """A worker's task does not end for a while; its heartbeats continue."""
        self.workers[number].hung = True
        self.world.later(seconds, seconds, self._unstick, self.workers[number])

    def deafen_worker(self, number: int, seconds: float) -> None:
        """A worker takes nothing from its queue for a while; its heartbeats continue.

        If the dispatch timeout is shorter than usual, workers take what they are sent within it, as the
        option demands.
        """
        self.workers[number].deaf = True
        seconds = min(seconds, self.knobs.limits.get("dispatch_timeout", seconds))
        self.world.later(seconds, seconds, self._unstick, self.workers[number])

    def _unstick(self, worker: SimWorker) -> None:
        worker.stuck = worker.hung = worker.deaf = worker.away = False
        worker.look()

    def worker_gives_up(self, number: int) -> None:
        """A Ruby worker drops its next task without a result."""
        self.workers[number].give_up_next = True

    def worker_blames(self, number: int) -> None:
        """A worker's surroundings are to blame for the end of its next task."""
        self.workers[number].voice.blames = True

    def worker_leaves(self, number: int, seconds: float) -> None:
        """A worker says goodbye; another one comes later."""
        worker = self.workers[number]
        if worker.alive:
            worker.leave()
            self.workers[number] = self.new_worker(number, worker.name)
            self.world.later(seconds, seconds, self.workers[number].start)

    def worker_comes_back(self, number: int, seconds: float) -> None:
        """A worker says goodbye, and starts again under the same name, unless the goodbye would be lost.

        Then its first *ready* would mean that its task is done.
        """
        worker = self.workers[number]
        if worker.alive and worker.heard and not worker.ruby:
            worker.leave()
            self.world.later(seconds, seconds, worker.start)

    def told_again(self, number: int) -> None:
        """Acknowledgements are lost for everything a worker has said since it left and came back."""
        said = self.workers[number].said
        if said is not None and len(said) < MOST_SAID:
            bodies = [json.dumps(message).encode() for message in said]
            unread = {message.body for message in self.broker.queues.get(QUEUE, ())}
            told = takewhile(lambda body: body not in unread, bodies)
            self.broker.give_back(QUEUE, [Stored(body) for body in told])

    def clock_jumps(self, ahead: float, seconds: float) -> None:
        """All wall clocks are wrong for a while."""
        self.world.wrong = ahead
        self.judge.clocks_right = self.judge.clocks_right and ahead > 0
        self.world.later(seconds, seconds, self._right_clock)

    def _right_clock(self) -> None:
        self.world.wrong = 0.0

    def worker_queue_lost(self, number: int) -> None:
        """Somebody deletes a worker's queue; the worker declares it again at its next start."""
        self.broker.delete(self.workers[number].name)
        self.kill_worker(number, 5.0)

    # --- other programs, in Etcd ---

    def foreign_take(self, name: str, seconds: float) -> None:
        """Another program takes a reference, if one is left, and gives it back later."""
        if self.observer.room(name) and f"{name}/ref_limit" in self.etcd.keys:
            self._held += 1
            count = int(self.etcd.keys.get(f"{name}/ref_count", "0")) + 1
            lock = f"{name}/locks/other:{self._held}~1~{count}"
            self.etcd.set(lock, str(count))
            self.etcd.set(f"{name}/ref_count", str(count))
            self.world.later(seconds, seconds, self._foreign_give, name, lock)

    def _foreign_give(self, name: str, lock: str) -> None:
        self.etcd.delete(lock)
        count = int(self.etcd.keys.get(f"{name}/ref_count", "0"))
        self.etcd.set(f"{name}/ref_count", str(max(0, count - 1)))

    def foreign_limit(self, name: str, seconds: float) -> None:
        """An operator sets a resource's limit to 0 for a while."""
        self.etcd.set(f"{name}/ref_limit", "0")
        self.world.later(seconds, seconds, self.etcd.set, f"{name}/ref_limit", str(LIMITS[name]))

    def foreign_close(self, name: str, seconds: float) -> None:
        """An operator closes a resource for a while."""
        self.etcd.set(f"{name}/available", "0")
        self.world.later(seconds, seconds, self.etcd.set, f"{name}/available", "1")

    def foreign_create(self, name: str, limit: int) -> None:
        """An operator creates a resource that tasks have named all along."""
        self.judge.newcomers.add(name)
        self.etcd.set(f"{name}/ref_limit", str(limit))

    def foreign_leak(self) -> None:
        """Somebody leaves a lock key behind; only for testing the observer."""
        self.etcd.set("db/locks/other:leak~1~1", "1")
