"""The sandbox: what it starts answers, can be broken and mended, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pika
import psycopg2
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from tefmanager.sandbox import Addresses, Programs, Sandbox, SandboxError, describe
from tefmanager.sandbox import guard as guard_module
from tefmanager.sandbox.machine import Account
from tefmanager.sandbox.process import GRACE
from tefmanager.sandbox.server import NotReady, Server
from tests.integration.amqp_support import rabbitmqctl
from tests.paths import ROOT
from tests.services import Services

SERVERS = ("rabbitmq", "postgresql", "etcd")
GUARD = [sys.executable, "-I", "-S", guard_module.__file__]
NO_ACCOUNT = ["-1", "-1"]


def state(pid: int) -> str:
    """Return the letter that the kernel has for a process's state; X when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pids: list[int]) -> list[int]:
    """Return those of the processes that have not ended."""
    return [pid for pid in pids if state(pid) not in "XZ"]


def wait_until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a process that is not our child, about which nobody tells us."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def listening(pids: list[int]) -> set[str]:
    """Return the addresses, as the kernel writes them, on which the processes listen."""
    sockets = set()
    for pid in pids:
        sockets |= {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].split(":")[0])
    return found


def write(services: Services, key: str) -> None:
    """Leave something in each of the servers."""
    with pika.BlockingConnection(pika.URLParameters(services.amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(key, durable=True)
        channel.basic_publish("", key, key.encode(), pika.BasicProperties(delivery_mode=2))
    # RabbitMQ 4 tells that a queue is there before the disk has it.
    rabbitmqctl(services, "eval", "mnesia:sync_log().")
    with psycopg2.connect(**services.database) as session, session.cursor() as cursor:
        cursor.execute(f"CREATE TABLE t{key} AS SELECT %s AS key", [key])
    session.close()
    request = urllib.request.Request(etcd_url(services, key), f"value={key}".encode(), method="PUT")
    urllib.request.urlopen(request, timeout=60).close()


def read_rabbitmq(services: Services, key: str) -> str:
    """Return what `write` left in RabbitMQ, and leave it there."""
    with pika.BlockingConnection(pika.URLParameters(services.amqp_url)) as connection:
        return str(connection.channel().basic_get(key)[2].decode())


def read_postgresql(services: Services, key: str) -> str:
    """Return what `write` left in PostgreSQL."""
    with psycopg2.connect(**services.database) as session, session.cursor() as cursor:
        cursor.execute(f"SELECT key FROM t{key}")
        [[found]] = cursor.fetchall()
    session.close()
    return str(found)


def read_etcd(services: Services, key: str) -> str:
    """Return what `write` left in Etcd."""
    with urllib.request.urlopen(etcd_url(services, key), timeout=60) as response:
        return str(json.load(response)["node"]["value"])


def etcd_url(services: Services, key: str) -> str:
    """Return a key's address in the v2 API."""
    host, port = services.etcd
    return f"http://{host}:{port}/v2/keys/{key}"


READ = {"rabbitmq": read_rabbitmq, "postgresql": read_postgresql, "etcd": read_etcd}


def new_sandbox(**options: Any) -> Sandbox:
    """Return a sandbox that was not started."""
    from twisted.internet import reactor

    return Sandbox(reactor, fast=True, **options)


@pytest.fixture(scope="module")
def own() -> Iterator[Services]:
    """A sandbox that may be broken, unlike the one that all tests share."""
    sandbox = new_sandbox()
    try:
        addresses = pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.start()))
        yield Services.of(sandbox, addresses)
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.stop()))


def server_of(services: Services, name: str) -> Server:
    """Return one server of a sandbox."""
    server = getattr(services.sandbox, name)
    assert isinstance(server, Server)
    return server


# What it starts --------------------------------------------------------------------------------


def test_each_server_answers_a_client_that_is_not_ours(services: Services, unique: str) -> None:
    """Right after the start, clients of all three can write and read."""
    write(services, unique)
    assert [READ[name](services, unique) for name in SERVERS] == [unique] * 3


def test_etcd_has_the_v3_api_too(services: Services) -> None:
    """The JSON gateway answers on the same port."""
    host, port = services.etcd
    request = urllib.request.Request(f"http://{host}:{port}/v3/kv/range", b'{"key": "eA=="}', method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        assert "header" in json.load(response)


def test_nothing_listens_beyond_loopback(services: Services) -> None:
    """RabbitMQ's distribution, its port mapper and Etcd's peer port included."""
    loopback = {"0100007F", "0" * 24 + "01000000"}  # Erlang's port mapper insists on ::1 as well
    assert listening(services.sandbox.pids()) <= loopback
    assert "0100007F" in listening(services.sandbox.pids())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_as_root_no_server_runs_as_root(services: Services) -> None:
    """Only the guards, one a server, keep the rights they were started with."""
    owners = [Path(f"/proc/{pid}").stat().st_uid for pid in services.sandbox.pids()]
    assert owners.count(0) == len(SERVERS)


def test_the_description_can_be_pasted() -> None:
    """Its export lines are the variables that the manager reads."""
    database: dict[str, str | int] = {
        "host": "127.0.0.1",
        "port": 5,
        "dbname": "d",
        "user": "u",
        "password": "p",
    }
    addresses = Addresses("amqp://guest:guest@127.0.0.1:4/", database, ("127.0.0.1", 6), Path("/tmp/x"))
    exports = [line.strip() for line in describe(addresses, "test") if line.startswith("  export ")]
    assert exports == [
        "export TEF_ENV=test",
        "export TEF_AMQP_URL_TEST=amqp://guest:guest@127.0.0.1:4/",
        "export TEF_MANAGER_DB_CONFIG=/tmp/x",
        "export TEF_ETCD_HOST_TEST=127.0.0.1 TEF_ETCD_PORT_TEST=6",
    ]
    assert any("postgresql://u:p@127.0.0.1:5/d" in line for line in describe(addresses))
    assert "  Page        http://127.0.0.1:8090/" in describe(addresses, page="http://127.0.0.1:8090/")


OWN = (
    "[Key || {Key, Value} <- application:get_all_env(rabbit), "
    "Value =/= proplists:get_value(Key, proplists:get_value(env, element(3, hd(element(2, "
    'file:consult(code:where_is_file("rabbit.app")))))))].'
)
"""Erlang for: which settings are not as RabbitMQ comes."""


def test_rabbitmq_has_its_own_limits(services: Services) -> None:
    """Only where it listens, logs and keeps things is not as RabbitMQ comes."""
    settings = re.findall(r"\w+", rabbitmqctl(services, "eval", OWN))
    assert "tcp_listeners" in settings
    own = {"tcp_listeners", "log", "backing_queue_module"}  # the last is RabbitMQ's own doing
    assert [name for name in settings if name not in own and not name.endswith(("_dir", "_file"))] == []


# Breaking and mending ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("name", SERVERS)
@pytest_twisted.ensureDeferred
async def test_a_restarted_server_has_its_port_and_data(
    own: Services, unique: str, name: str, how: str
) -> None:
    """Whether it was stopped in good order or killed; the clients' addresses stay good."""
    write(own, unique)
    server = server_of(own, name)
    before = server.pids()
    await getattr(server, how)()
    assert alive(before) == []
    assert server.pids() == []
    await server.start()
    assert READ[name](own, unique) == unique


@pytest.mark.parametrize("name", SERVERS)
@pytest_twisted.ensureDeferred
async def test_a_frozen_server_keeps_its_connections_and_answers_nobody(own: Services, name: str) -> None:
    """All its processes are stopped by signal, backends too; thawed they go on."""
    from twisted.internet import reactor

    server = server_of(own, name)
    server.freeze()
    try:
        guard, *processes = server.pids()
        wait_until(lambda: {state(pid) for pid in processes} == {"T"})  # a running one takes a moment
        assert state(guard) != "T"
        with pytest.raises((TimeoutError, NotReady)):
            await Deferred.fromCoroutine(server.probe()).addTimeout(0.3, reactor)
    finally:
        server.thaw()
    wait_until(lambda: "T" not in {state(pid) for pid in processes})
    await server.probe()


@pytest_twisted.ensureDeferred
async def test_a_frozen_server_can_be_stopped(own: Services) -> None:
    """Stopping thaws it first, or it would wait for the grace to pass."""
    server = server_of(own, "etcd")
    server.freeze()
    begin = time.monotonic()
    await server.stop()
    assert time.monotonic() - begin < GRACE
    await server.start()


# The end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
@pytest_twisted.ensureDeferred
async def test_asking_whether_a_server_answers_is_not_logged(own: Services, name: str) -> None:
    """It is done many times while the server starts, and would hide what matters."""
    seen: list[LogEvent] = []
    observer = cast(ILogObserver, seen.append)
    globalLogPublisher.addObserver(observer)
    try:
        await server_of(own, name).probe()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [formatEvent(event) for event in seen] == []


@pytest_twisted.ensureDeferred
async def test_stopping_leaves_no_process_and_no_folder(unique: str) -> None:
    """A second stop does nothing; one before any start neither."""
    folder = Path(tempfile.gettempdir(), f"tef-sandbox-test-{unique}")  # pytest's are closed to other users
    sandbox = new_sandbox(folder=folder)
    await sandbox.stop()
    await sandbox.start()
    pids = sandbox.pids()
    assert folder.is_dir()
    assert len(pids) > 2 * len(SERVERS)
    await sandbox.stop()
    await sandbox.stop()
    assert alive(pids) == []
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_root_writes_nothing_where_others_may(own: Services) -> None:
    """What is not the servers' alone is in a folder of root's, and none of it is for others to read."""
    folder = own.sandbox.postgresql.folder.parent
    for path in (folder, *(path for path in folder.iterdir() if not path.is_dir())):
        found = path.stat(follow_symlinks=False)
        assert (path, found.st_uid, found.st_mode & 0o066) == (path, 0, 0)
    for server in SERVERS:
        running = server_of(own, server)
        assert running.folder.stat().st_uid == Account.unprivileged().user
        assert running.log.parent == folder
        assert [path for path in running.folder.iterdir() if path.stat().st_uid == 0] == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link that another user has put where we write is replaced, and what it leads to stays as it is."""
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("as it was")
    for target in (precious, tmp_path / "not-there"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        Account().write(link, "new")
        assert (link.is_symlink(), link.read_text(), link.stat().st_mode & 0o777) == (False, "new", 0o600)
    assert precious.read_text() == "as it was"
    assert not (tmp_path / "not-there").exists()


@pytest_twisted.ensureDeferred
async def test_stopping_while_it_starts_ends_the_start() -> None:
    """The start fails, and nothing of it is left or still to come."""
    sandbox = new_sandbox()
    start = Deferred.fromCoroutine(sandbox.start())
    pids = sandbox.pids()
    assert len(pids) >= len(SERVERS)
    await sandbox.stop()
    with pytest.raises(SandboxError):
        await start
    assert alive(pids) == []
    assert sandbox.pids() == []


def test_servers_end_when_their_parent_is_killed() -> None:
    """Even frozen ones: nobody is left to thaw them."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    with parent, parent.stdout:
        folder, pids = json.loads(parent.stdout.readline())
        assert alive(pids) == pids
        parent.kill()
    wait_until(lambda: not alive(pids))
    subprocess.run(["rm", "-rf", folder], check=True)


PARENT = """
import json
from twisted.internet import defer, reactor
from tefmanager.sandbox import Sandbox

async def run():
    sandbox = Sandbox(reactor, fast=True)
    addresses = await sandbox.start()
    sandbox.postgresql.freeze()
    print(json.dumps([str(addresses.folder), sandbox.pids()]), flush=True)

defer.Deferred.fromCoroutine(run()).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
reactor.run()
"""


# What may be wrong ------------------------------------------------------------------------------


def test_all_missing_programs_are_named_in_one_line(tmp_path: Path) -> None:
    """With the Debian package of each."""
    with pytest.raises(SandboxError) as raised:
        Programs.find(tmp_path)
    assert str(raised.value) == (
        "rabbitmq-server, postgres, etcd not found: "
        "install the Debian packages rabbitmq-server postgresql etcd-server"
    )


def test_one_missing_program_is_named(tmp_path: Path) -> None:
    """And the newest of several versions is taken of those that are there."""
    for name in (
        "lib/rabbitmq/bin/rabbitmq-server",
        *(f"lib/postgresql/{n}/bin/{p}" for n in (9, 15) for p in PG),
    ):
        program = tmp_path / "usr" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(0o755)
    with pytest.raises(SandboxError, match=r"^etcd not found: install the Debian package etcd-server$"):
        Programs.find(tmp_path)
    etcd = tmp_path / "usr/bin/etcd"
    etcd.parent.mkdir()
    etcd.touch(0o755)
    assert Programs.find(tmp_path).postgres == tmp_path / "usr/lib/postgresql/15/bin/postgres"


PG = ("initdb", "postgres")


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_come_up_is_named_with_its_last_words(tmp_path: Path) -> None:
    """The error has its name, its exit status and the end of its log; the others are cleaned up."""
    etcd = program(tmp_path, 'test "$1" = --help || { echo "no space left"; exit 3; }')
    sandbox = new_sandbox(programs=replace(Programs.find(), etcd=etcd))
    with pytest.raises(SandboxError, match=r"(?s)^etcd ended with exit status 3; .*no space left$"):
        await sandbox.start()
    pids = sandbox.pids()
    assert pids
    await sandbox.stop()
    assert alive(pids) == []


@pytest_twisted.ensureDeferred
async def test_a_folder_that_exists_is_refused_and_kept(tmp_path: Path) -> None:
    """The sandbox removes its folder, so it takes none that may be somebody else's."""
    sandbox = new_sandbox(folder=tmp_path)
    with pytest.raises(SandboxError, match="exists"):
        await sandbox.start()
    await sandbox.stop()
    assert tmp_path.is_dir()


def program(folder: Path, script: str) -> Path:
    """Make a program that every user may run."""
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.getuid() and not each.stat().st_mode & 0o001:
            each.chmod(0o755)
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}\n")
    path.chmod(0o755)
    return path


# The guard --------------------------------------------------------------------------------------


def guarded(script: str, stop_signal: int = signal.SIGTERM, grace: float = 5.0) -> subprocess.Popen[bytes]:
    """Start a shell script under a guard."""
    arguments = [str(int(stop_signal)), str(grace), *NO_ACCOUNT, "/bin/sh", "-c", script]
    return subprocess.Popen([*GUARD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def first_line(process: subprocess.Popen[bytes]) -> str:
    """Return the first line that it writes."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_guard_ends_as_its_program_did(script: str, status: int) -> None:
    """With the exit status that a shell would give it."""
    with guarded(script) as process:
        assert process.wait(60) == status


def test_the_guard_says_when_there_is_no_program() -> None:
    """As a shell does: 127, and why."""
    ended = subprocess.run(
        [*GUARD, "15", "5", *NO_ACCOUNT, "/no/such"], stdin=subprocess.PIPE, capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (127, b"/no/such: No such file or directory\n")


def test_the_guard_passes_the_stop_signal_on() -> None:
    """SIGTERM to the guard becomes what the program takes for it."""
    with guarded("trap 'exit 5' INT; echo; while :; do sleep 0.01; done", signal.SIGINT) as process:
        first_line(process)
        process.terminate()
        assert process.wait(60) == 5


def test_the_guard_kills_what_does_not_stop() -> None:
    """When the grace is over."""
    with guarded("trap '' TERM; echo; while :; do sleep 0.01; done", grace=0.2) as process:
        first_line(process)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGKILL


@pytest.mark.parametrize("end", ["program", "parent", "kill"])
def test_the_guard_leaves_no_daemon_behind(end: str) -> None:
    """A process that left its session and whose parent ended is found nevertheless."""
    script = "setsid sh -c 'sleep 600 & echo $!' & wait; " + ("exit 0" if end == "program" else "sleep 600")
    with guarded(script) as process:
        daemon = int(first_line(process))
        if end == "parent":
            assert process.stdin is not None
            process.stdin.close()
        elif end == "kill":
            process.send_signal(signal.SIGQUIT)
        process.wait(60)
        assert alive([daemon]) == []
