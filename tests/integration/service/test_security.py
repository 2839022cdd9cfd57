"""``docs/security.md``: its commands give the rights it says, they are enough, and none is too much."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker
from psycopg2.errors import InsufficientPrivilege

from tefmanager.sandbox.machine import HOST
from tefmanager.store.names import lock_key, lock_name_for
from tests.integration.ctl.test_tefctl import Tefctl, command, environment
from tests.integration.daemon import Daemon, running, until
from tests.integration.grid_client import compact, fresh
from tests.integration.pages import block
from tests.integration.rights import (
    DATABASE,
    DATABASE_PASSWORD,
    PAGE,
    PREFIX,
    RESOURCE,
    VHOST,
    Administrator,
    Party,
    Worker,
    alternatives,
    grants,
    permissions,
)
from tests.services import Services


@pytest.fixture(scope="module")
def administrator(own: Services, tmp_path_factory: pytest.TempPathFactory) -> Administrator:
    """Services set up by the page's commands, with two roles in the database, the owner's run made."""
    folder = tmp_path_factory.mktemp("rights")
    administrator = Administrator(own, folder)
    administrator.follow("passwords", "rabbitmq", "rabbitmq-others", "postgresql-two", "etcd")
    administrator.etcd(f"etcdctl put /tef/prod/resources/{RESOURCE}/ref_limit 1")
    with running(administrator.daemon(folder / "owner", "tef_owner")):
        pass
    administrator.follow("postgresql-grants", PGDATABASE=DATABASE)
    return administrator


def a_task_through(daemon: Daemon, administrator: Administrator, api: str = "v3") -> None:
    """Let a client submit a task that needs the resource, and a worker do it."""
    worker, client = Worker(administrator.party("tef-worker")), administrator.party("tef-client")
    worker.say("idle")
    replies = client.channel.queue_declare("", exclusive=True).method.queue
    guid = fresh("task")
    client.send(replies, type="task", task_type=worker.worker_type, guid=guid, resources=[RESOURCE])
    assert json.loads(client.take(replies)) == {"response": True}
    assert json.loads(worker.take())["guid"] == guid
    assert administrator.locks(api)
    worker.say("working", "task_complete", "offline")
    daemon.log.wait(f"TASK_COMPLETED|{worker.worker_type}|{guid}|")
    until(lambda: not administrator.locks(api), "the reference")


def test_rights_are_enough(administrator: Administrator, tmp_path: Path) -> None:
    """With just these rights a task with a resource goes to a worker and into history."""
    with running(administrator.daemon(tmp_path)) as daemon:
        a_task_through(daemon, administrator)


def said(daemon: Daemon, *texts: str) -> bool:
    """Tell whether a line of the log has all of these texts."""
    return any(all(text in line for text in texts) for line in daemon.log.lines)


# --- one right less: RabbitMQ ---

CONFIGURE, WRITE, READ = 0, 1, 2
REFUSED = "ACCESS_REFUSED - access to"
QUEUE, DEAD, REJECTED, EVENTS = (f"{PREFIX}.manager{end}" for end in ("", ".dead", ".rejected", ".events"))
NO_CONSUMER, CONSUMER = "BROKER_WAITING|consumer|", "BROKER_CONNECTED|consumer|"
NO_EVENTS, EVENTS_AGAIN = "Events are not published: ", "Events are published again"


def remove(administrator: Administrator, name: str) -> None:
    """Delete what the manager has made: it needs no right to declare what is there."""
    channel = administrator.party("tef-manager").channel
    if name == EVENTS:
        channel.exchange_delete(name)
    elif name in (DEAD, REJECTED):
        channel.queue_delete(name)


def busy(worker: Worker, client: Party) -> bool:
    """Let a client submit a task, and the worker do one, and tell that it is free."""
    client.send(type="task", task_type=worker.worker_type, guid=fresh("task"))
    worker.work()
    worker.say("idle")
    time.sleep(0.2)
    return True


@pytest.mark.parametrize(
    ("right", "name", "refused", "again"),
    [
        (CONFIGURE, QUEUE, NO_CONSUMER, CONSUMER),
        (CONFIGURE, DEAD, f"queue {DEAD} is missing", f"queue {DEAD}: there now"),
        (CONFIGURE, REJECTED, f"queue {REJECTED} is missing", f"queue {REJECTED}: there now"),
        (CONFIGURE, EVENTS, f"exchange {EVENTS} is missing", f"exchange {EVENTS}: there now"),
        (CONFIGURE, EVENTS, NO_EVENTS, EVENTS_AGAIN),
        (WRITE, EVENTS, NO_EVENTS, EVENTS_AGAIN),
        (READ, QUEUE, NO_CONSUMER, CONSUMER),
    ],
)
def test_rabbitmq_less(
    administrator: Administrator, tmp_path: Path, right: int, name: str, refused: str, again: str
) -> None:
    """Without any one name that the manager may use its log says which, and it goes on once it may."""
    rights = permissions("tef-manager")
    less = [*rights]
    less[right] = alternatives(rights[right], name)
    daemon = administrator.daemon(tmp_path)
    try:
        if right == CONFIGURE:
            remove(administrator, name)
        administrator.permit(*less)
        daemon.start(ready=False)
        worker, client = Worker(administrator.party("tef-worker")), administrator.party("tef-client")
        worker.say("idle")
        client.send(type="task", task_type=worker.worker_type, guid=fresh("task"))
        until(lambda: said(daemon, refused, REFUSED, f"'{name}'"), f"{refused} with {name}")
        assert not daemon.log.events("DELIVERIES_LOST|"), "nothing was delivered"
        assert not said(daemon, again)
        administrator.permit(*rights)
        until(lambda: busy(worker, client) and said(daemon, again), again)
        daemon.wait_ready()
        assert not said(daemon, REFUSED, "there is no"), "nobody has looked for it"
        daemon.stop()
    finally:
        daemon.end()
        administrator.permit(*rights)


def test_no_right_to_publish_to_queues(administrator: Administrator, tmp_path: Path) -> None:
    """No worker is judged by that: a task that can't be sent waits, and arrives once there is the right."""
    rights = permissions("tef-manager")
    less = [*rights]
    less[WRITE] = alternatives(rights[WRITE], "amq.default")
    daemon = administrator.daemon(tmp_path)
    try:
        administrator.permit(*less)
        daemon.start(ready=False)
        worker, client = Worker(administrator.party("tef-worker")), administrator.party("tef-client")
        worker.say("idle")
        client.send(type="task", task_type=worker.worker_type, guid=(guid := fresh("task")))
        until(lambda: daemon.rows("tasks", guid=guid, state="dispatched"), "a dispatch")
        daemon.log.wait(f"WAITING_FOR|publisher: 403 {REFUSED} exchange 'amq.default'")
        administrator.permit(*rights)
        assert json.loads(worker.take())["guid"] == guid
        worker.say("working", "task_complete", "offline")
        daemon.log.wait(f"TASK_COMPLETED|{worker.worker_type}|{guid}|{worker.name}|")
        judged = ("WORKER_MISSING|", "DISPATCH_FAILED|", "DISPATCH_TIMEOUT|", "DISPATCH_UNCONFIRMED|")
        assert [line for line in daemon.logged(judged) if worker.name in line] == []
        daemon.stop()
    finally:
        daemon.end()
        administrator.permit(*rights)


# --- more rights, for what not everybody needs ---


@pytest.mark.parametrize("less", [None, CONFIGURE, WRITE, READ])
def test_bind(administrator: Administrator, tmp_path: Path, less: int | None) -> None:
    """The page adds the rights that --bind needs; without any one the manager says so, and consumes."""
    source = f"{PREFIX}.suites.{less}"  # not there yet
    rights = permissions("tef-manager")
    needed = [source, f"{PREFIX}.manager", source]
    more = [
        right if kind == less else f"{right}|^{re.escape(name)}$"
        for kind, (right, name) in enumerate(zip(rights, needed, strict=True))
    ]
    daemon = administrator.daemon(tmp_path, "tef_manager", f"--bind={source}:task")
    try:
        administrator.permit(*more)
        daemon.start()
        if less is not None:
            missing = f"binding to exchange {source} with key task is missing"
            until(lambda: said(daemon, missing, REFUSED, f"'{needed[less]}'"), "a refusal")
            more[less] += f"|^{re.escape(needed[less])}$"
            administrator.permit(*more)
            until(lambda: said(daemon, f"binding to exchange {source} with key task: there now"), "it")
        administrator.shell(f"rabbitmqctl -q list_bindings -p {VHOST} | grep {source}")
        heard_from(source, daemon, administrator)
        daemon.stop()
    finally:
        daemon.end()
        administrator.permit(*rights)


def heard_from(source: str, daemon: Daemon, administrator: Administrator) -> None:
    """Submit a task by an exchange that is bound, as a client that may publish there and nowhere else."""
    configure, write, read = permissions("tef-client")
    administrator.permit(configure, f"^{re.escape(source)}$", read, user="tef-client")
    guid = fresh("task")
    try:
        body = compact({"type": "task", "task_type": "bound", "guid": guid})
        administrator.party("tef-client").channel.basic_publish(source, "task", body)
        daemon.log.wait(f"TASK_ACCEPTED|bound|{guid}|")
    finally:
        administrator.permit(configure, write, read, user="tef-client")


def test_exchange_of_a_worker(administrator: Administrator, tmp_path: Path) -> None:
    """A worker that has an exchange gets its tasks there, with the rights that the page adds for that."""
    configure, write, read = permissions("tef-manager")
    more = rf"^{re.escape(PREFIX)}\.worker\."
    own = [*permissions("tef-worker")]
    own[WRITE] += f"|{more}"
    try:
        administrator.permit(configure, f"{write}|{more}", read)
        administrator.permit(*own, user="tef-worker")
        with running(administrator.daemon(tmp_path)):
            worker, client = Worker(administrator.party("tef-worker")), administrator.party("tef-client")
            worker.move_to_exchange()
            worker.say("idle")
            guid = fresh("task")
            client.send(type="task", task_type=worker.worker_type, guid=guid)
            assert json.loads(worker.take())["guid"] == guid
            worker.say("working", "task_complete", "offline")
    finally:
        administrator.permit(configure, write, read)
        administrator.permit(*permissions("tef-worker"), user="tef-worker")


# --- one right less: PostgreSQL ---


@pytest.mark.parametrize(("privilege", "table"), grants())
def test_postgresql_less(administrator: Administrator, tmp_path: Path, privilege: str, table: str) -> None:
    """Without any one privilege on a table, the log says that it is denied."""
    daemon = administrator.daemon(tmp_path)
    try:
        administrator.sql(f"revoke {privilege} on {table} from tef_manager;", PGDATABASE=DATABASE)
        daemon.start(ready=False)
        live_until(daemon, administrator, f"permission denied for table {table}")
        daemon.stop()
    finally:
        daemon.end()
        administrator.sql(f"grant {privilege} on {table} to tef_manager;", PGDATABASE=DATABASE)


def live_until(daemon: Daemon, administrator: Administrator, text: str) -> None:
    """Let happen what makes the manager use every table in every way, until it logs a text."""
    party, client = administrator.party("tef-worker"), administrator.party("tef-client")
    busy, lazy = Worker(party), Worker(party)
    suite, to_do = fresh("suite"), ["ready_suite"]
    busy.say("idle")
    for worker in (busy, lazy):
        client.send(type="task", task_type=worker.worker_type, guid=fresh("task"))
    client.send(type="pause_suite", data=suite)
    client.send(type="settle_dead", data={"guids": [fresh("task")]})
    Worker(party).say("idle", "offline")

    def lived() -> bool:
        busy.work()
        lazy.say("idle")  # it leaves its task where it is, and the manager has to find that out
        if to_do and daemon.log.events(f"SUITE_PAUSED|{suite}"):
            client.send(type=to_do.pop(), data=suite)
        return said(daemon, text)

    until(lived, text)


# --- one right less: Etcd ---


@pytest.fixture(scope="module")
def narrow(administrator: Administrator) -> Administrator:
    """The role in Etcd that may change no limits."""
    administrator.etcd(block(PAGE, "etcd-narrow").text)
    return administrator


def test_narrow_role(narrow: Administrator, tmp_path: Path) -> None:
    """Writing counts and locks alone is enough for a task."""
    with running(narrow.daemon(tmp_path)) as daemon:
        a_task_through(daemon, narrow)


@pytest.mark.parametrize(
    ("kind", "key", "event"),
    [
        ("read --prefix=true", "", "RESOURCES_LOST|"),
        ("readwrite", f"{RESOURCE}/ref_count", "TASK_CANNOT_RUN|"),
        ("readwrite --prefix=true", f"{RESOURCE}/locks/", "TASK_CANNOT_RUN|"),
    ],
)
def test_etcd_less(narrow: Administrator, tmp_path: Path, kind: str, key: str, event: str) -> None:
    """Without one of its rights at Etcd, the manager says what is refused, and as whom it asked."""
    path, prefix = f"/tef/prod/resources/{key}", "--prefix=true" if "prefix" in kind else ""
    daemon = narrow.daemon(tmp_path)
    try:
        narrow.etcd(f"etcdctl role revoke-permission tef-manager {prefix} {path}")
        daemon.start()
        worker, client = Worker(narrow.party("tef-worker")), narrow.party("tef-client")
        worker.say("idle")
        task, suite = {"task_type": worker.worker_type, "guid": fresh("task")}, fresh("suite")
        client.send(type="task", **task, suite_guid=suite, resources=[RESOURCE])
        [line] = daemon.log.wait(event)
        assert "not let in, as 'tef-manager': HTTP 403: permission denied" in line
        client.send(type="stop_suite", data=suite)  # it would take the resource from the next test's task
        daemon.log.wait(f"SUITE_STOPPED|{suite}|")
        daemon.stop()
    finally:
        daemon.end()
        narrow.etcd(f"etcdctl role grant-permission tef-manager {kind} {path}")


def test_etcd_without_a_sign_of_life(narrow: Administrator, tmp_path: Path) -> None:
    """A manager that may not write it says so, and works."""
    folder = "/tef/prod/managers/tef.prod/"
    narrow.etcd(f"etcdctl role revoke-permission tef-manager --prefix=true {folder}")
    try:
        with running(narrow.daemon(tmp_path)) as daemon:
            a_task_through(daemon, narrow)
            [line] = daemon.log.events("ETCD_UNGUARDED|")
            assert line.startswith(f"ETCD_UNGUARDED|{folder.rstrip('/')}|etcd ")
            assert line.endswith("not let in, as 'tef-manager': HTTP 403: permission denied")
    finally:
        narrow.etcd(f"etcdctl role grant-permission tef-manager readwrite --prefix=true {folder}")


def test_tables_are_the_owner_s(administrator: Administrator, tmp_path: Path) -> None:
    """A manager without tables says what it lacks, and goes on once the owner has made them."""
    administrator.sql("drop owned by tef_owner cascade;", PGDATABASE=DATABASE)
    daemon = administrator.daemon(tmp_path / "manager")
    try:
        daemon.start(ready=False)
        daemon.log.wait("WAITING_FOR|database")
        assert "|database 127.0.0.1:" in (line := daemon.log.events("WAITING_FOR|")[0])
        assert ": permission denied for schema public|" in line
        with running(administrator.daemon(tmp_path / "owner", "tef_owner")):
            pass
        administrator.follow("postgresql-grants", PGDATABASE=DATABASE)
        daemon.wait_ready()
        daemon.stop()
    finally:
        daemon.end()


def test_lock_without_rights(administrator: Administrator, tmp_path: Path) -> None:
    """Whoever may connect to the database can keep every manager from becoming active."""
    key = lock_key(lock_name_for("prod", PREFIX))
    administrator.sql(
        f"create role stranger login password 'stranger'; grant connect on database {DATABASE} to stranger"
    )
    login = {"user": "stranger", "password": "stranger", "dbname": DATABASE}
    stranger = psycopg2.connect(**{**administrator.services.database, **login})
    daemon = administrator.daemon(tmp_path)
    try:
        stranger.cursor().execute("select pg_advisory_lock(%s)", [key])
        daemon.start(ready=False)
        daemon.log.wait("WAITING_FOR|another manager is active")
        stranger.close()
        daemon.wait_ready()
        daemon.stop()
    finally:
        stranger.close()
        daemon.end()


# --- one role in the database; Etcd's v2 API ---


def test_postgresql_with_one_role(administrator: Administrator, tmp_path: Path) -> None:
    """A role that owns its database makes the tables itself, and needs no grants."""
    script = (
        block(PAGE, "postgresql-one")
        .text.replace("tef_manager", "tef_alone")
        .replace(DATABASE, "tef_alone")
    )
    administrator.sql(script)
    administrator.etcd("etcdctl del --prefix /tef/prod/managers/")  # a new database is another grid
    with running(administrator.daemon(tmp_path, "tef_alone", database="tef_alone")) as daemon:
        a_task_through(daemon, administrator)


def test_etcd_v2(administrator: Administrator, tmp_path: Path) -> None:
    """The rights of the v2 API are enough for a task, and so are the narrow ones."""
    administrator.shell(f"etcdctl set /tef/prod/resources/{RESOURCE}/ref_limit 1", ETCDCTL_API="2")
    administrator.follow("etcd-v2", ETCDCTL_API="2")
    with running(administrator.daemon(tmp_path / "wide", "tef_manager", "--etcd-api=v2")) as daemon:
        a_task_through(daemon, administrator, "v2")
    root = f"root:{administrator.password('root.etcd')}"
    narrow = block(PAGE, "etcd-v2-narrow").text.replace("etcdctl", f"etcdctl --username {root}")
    administrator.shell(narrow, ETCDCTL_API="2")
    with running(administrator.daemon(tmp_path / "narrow", "tef_manager", "--etcd-api=v2")) as daemon:
        a_task_through(daemon, administrator, "v2")


# --- the others ---


@pytest.fixture
def tefctl(administrator: Administrator, tmp_path: Path) -> Iterator[Tefctl]:
    """Run tefctl beside a manager as one of the page's users, and return what came of it."""

    def run(user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        services = administrator.services
        variables = environment(services, "v3", "prod") | {
            "TEF_AMQP_URL_PROD": f"amqp://{HOST}:{services.sandbox.rabbitmq.port}/{VHOST}",
            "TEF_AMQP_USER_PROD": user,
            "TEF_AMQP_PASSWORD_PROD": administrator.password(f"{user}.amqp"),
        }
        return subprocess.run(
            command(*arguments), env=variables, capture_output=True, text=True, timeout=60
        )

    with running(administrator.daemon(tmp_path)):
        yield run


def test_operator(tefctl: Tefctl) -> None:
    """The operator's rights are enough to ask, to command and to look at the dead tasks."""
    assert "running" in tefctl("tef-operator", "status").stdout
    for state in ("paused", "running"):
        assert tefctl("tef-operator", "set-state", state).stdout == f"the manager is {state}\n"
    assert tefctl("tef-operator", "dead", "drop", "--all").returncode == 0
    assert tefctl("tef-operator", "dead", "list").stdout == "no dead tasks\n"


def test_dashboard(administrator: Administrator, tefctl: Tefctl) -> None:
    """Who only listens hears the keys that the page names, may bind to no others, and can say nothing."""
    assert "ACCESS_REFUSED" in tefctl("tef-dashboard", "events").stderr
    refusal = f"RabbitMQ does not allow us to publish to {PREFIX}.manager"
    assert refusal in tefctl("tef-dashboard", "set-state", "paused").stderr
    party, worker = administrator.party("tef-dashboard"), Worker(administrator.party("tef-worker"))
    queue = party.channel.queue_declare("", exclusive=True).method.queue
    party.channel.queue_bind(queue, f"{PREFIX}.manager.events", "worker.registered")
    worker.say("idle", "offline")
    assert json.loads(party.take(queue))["worker"] == worker.name
    administrator.party("tef-manager").channel.basic_publish(EVENTS, "worker.registered", b"a lie")
    assert party.take(queue) == b"a lie"


def test_workers_of_a_host(administrator: Administrator) -> None:
    """A host's workers may be kept from the tasks of another one's."""
    rights = permissions("tef-worker")
    own = [right.replace(r"worker\.", r"worker\.host\.") for right in rights]
    assert own != rights
    other = Worker(administrator.party("tef-worker"), "other")
    try:
        administrator.permit(*own, user="tef-worker")
        channel = administrator.party("tef-worker").channel
        channel.basic_get(Worker(administrator.party("tef-worker"), "host").queue)
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            channel.basic_get(other.queue)
    finally:
        administrator.permit(*rights, user="tef-worker")


# --- what the page says that they can do ---


def test_who_publishes_to_queues(administrator: Administrator, tefctl: Tefctl) -> None:
    """A client can command the manager, speak for a worker, send past the manager, and answer for it."""
    client, worker = administrator.party("tef-client"), Worker(administrator.party("tef-worker"))

    def status() -> str:
        return tefctl("tef-operator", "--json", "status").stdout

    for state in ("paused", "running"):
        client.send(type="set_state", data=state)
        until(lambda: f'"state":"{state}"' in status().replace(" ", ""), state)  # noqa: B023
    elsewhere = Worker(administrator.party("tef-worker"))
    told = {"name": worker.name, "worker_type": worker.worker_type, "exchange_name": elsewhere.queue}
    worker.say("idle")
    until(lambda: worker.name in tefctl("tef-operator", "workers").stdout, "a worker")
    client.send(type="worker_status", **told, status="idle")
    client.send(type="task", task_type=worker.worker_type, guid=(guid := fresh("task")))
    assert json.loads(elsewhere.take())["guid"] == guid
    client.send(type="worker_status", **told, status="offline")
    another = administrator.party("tef-client")
    replies = another.channel.queue_declare("", exclusive=True).method.queue
    for queue, who in (
        (worker.queue, administrator.party("tef-worker")),
        (replies, another),
        (DEAD, administrator.party("tef-operator")),
    ):
        client.channel.basic_publish("", queue, b"not by the manager")
        assert who.take(queue) == b"not by the manager"
    before = administrator.messages(REJECTED)
    client.channel.basic_publish("", REJECTED, b"not by the manager")
    until(lambda: administrator.messages(REJECTED) == before + 1, "a message among the rejected")


def test_who_configures_the_manager_s_queue(administrator: Administrator, tmp_path: Path) -> None:
    """A worker can delete it; the manager makes it anew, and goes on."""
    with running(administrator.daemon(tmp_path)) as daemon:
        administrator.party("tef-worker").channel.queue_delete(QUEUE)
        daemon.log.wait(CONSUMER, 2)
        administrator.party("tef-client").send(type="task", task_type="t", guid=(guid := fresh("task")))
        daemon.log.wait(f"TASK_ACCEPTED|t|{guid}|")


def test_another_vhost(administrator: Administrator, tmp_path: Path) -> None:
    """Who has a vhost of its own on the same RabbitMQ can do nothing in this one, by whatever names."""
    administrator.shell(
        "rabbitmqctl -q add_vhost other; rabbitmqctl -q add_user stranger secret;"
        "rabbitmqctl -q set_permissions -p other stranger '.*' '.*' '.*'"
    )
    port = administrator.services.sandbox.rabbitmq.port
    with pytest.raises(AMQPConnectionError, match="access to vhost 'tef' refused"):
        Party(port, "stranger", "secret")
    stranger = Party(port, "stranger", "secret", "other")
    with running(administrator.daemon(tmp_path)) as daemon:
        stranger.channel.queue_declare(QUEUE, durable=True)
        stranger.send(type="task", task_type="t", guid=(foreign := fresh("task")))
        administrator.party("tef-client").send(type="task", task_type="t", guid=(guid := fresh("task")))
        daemon.log.wait(f"TASK_ACCEPTED|t|{guid}|")
        assert json.loads(stranger.take(QUEUE))["guid"] == foreign
        assert not said(daemon, foreign)


@pytest.mark.parametrize(
    "statement",
    [
        "drop table tefmanager_prod_tasks",
        "alter table tefmanager_prod_tasks add column more text",
        "create table tefmanager_prod_more (id int)",
        "insert into tefmanager_prod_upgrades select * from tefmanager_prod_upgrades",
    ],
)
def test_the_manager_s_role(administrator: Administrator, statement: str) -> None:
    """It can read and change tasks, and with two roles it can't change the tables."""
    login = {"user": "tef_manager", "password": DATABASE_PASSWORD, "dbname": DATABASE}
    connection = psycopg2.connect(**{**administrator.services.database, **login})
    try:
        with connection.cursor() as cursor:
            cursor.execute("select body from tefmanager_prod_tasks")
            with pytest.raises(InsufficientPrivilege):
                cursor.execute(statement)
    finally:
        connection.close()


# --- what they cannot do ---


@pytest.mark.parametrize(
    ("user", "do"),
    [
        ("tef-worker", lambda channel: channel.basic_get(f"{PREFIX}.manager")),
        ("tef-worker", lambda channel: channel.queue_declare(f"{PREFIX}.manager.dead", durable=True)),
        ("tef-client", lambda channel: channel.queue_delete(f"{PREFIX}.manager")),
        ("tef-client", lambda channel: channel.basic_get(f"{PREFIX}.manager")),
        ("tef-client", lambda channel: channel.basic_get(f"{PREFIX}.manager.dead")),
        ("tef-operator", lambda channel: channel.basic_get(f"{PREFIX}.manager.rejected")),
        ("tef-operator", lambda channel: channel.queue_delete(f"{PREFIX}.manager.dead")),
        ("tef-manager", lambda channel: channel.queue_declare("another", durable=True)),
    ],
)
def test_what_nobody_needs(administrator: Administrator, user: str, do: Callable[[Any], object]) -> None:
    """Users can't do what the page does not let them."""
    channel = administrator.party(user).channel
    with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
        do(channel)
