"""A running daemon under attack over HTTP: it goes on dispatching, and its health is always told."""

from __future__ import annotations

import http.client
import resource
import socket
import stat
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.integration.daemon import CALM, Daemon, running, until
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.integration.http_client import TOKEN, Http, shown
from tests.services import Services

PATIENCE = 15.0
"""Seconds that an answer may take on a machine that does much else."""


@pytest.fixture
def daemon(both: tuple[Daemon, Http]) -> Daemon:
    """The daemon."""
    return both[0]


@pytest.fixture
def attacked(both: tuple[Daemon, Http]) -> Http:
    """Its HTTP."""
    return both[1]


def is_healthy(http: Http) -> bool:
    """Tell whether health is told in time."""
    began = time.monotonic()
    answer = http.get("/health")
    return answer.status == 200 and time.monotonic() - began < PATIENCE


def connect(http: Http) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", http.port), timeout=20)


def send(http: Http, head: str, body: bytes = b"") -> bytes:
    """Send a request, as far as it is read; return the start of the answer."""
    with connect(http) as line:
        line.sendall(head.replace("\n", "\r\n").encode())
        with suppress(OSError):  # nobody reads it
            line.sendall(body)
        return line.recv(100)


def a_task_through(grid: Grid) -> None:
    """Let a task be dispatched and done."""
    worker = ReadmeWorker(grid, fresh("kind"))
    grid.task(worker.worker_type)
    worker.free()
    received = worker.expect()
    worker.begin(received)
    worker.finish(received)
    grid.settle()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_long_forms(attacked: Http, daemon: Daemon, kind: str) -> None:
    """A form of 28 MB is refused by its length; it is neither parsed nor written to a file."""
    files = {path.name for path in Path(f"/proc/{daemon.pid}/fd").iterdir()}
    head = f"POST / HTTP/1.1\nHost: localhost\nContent-Type: {kind}\nContent-Length: 28000000\n\n"
    answer = send(attacked, head, b"a=b&" * 7_000_000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert is_healthy(attacked)
    chunked = f"POST / HTTP/1.1\nHost: localhost\nContent-Type: {kind}\nTransfer-Encoding: chunked\n\n"
    assert send(attacked, chunked, b"8000\r\n" + b"a&" * 0x4000 + b"\r\n").startswith(b"HTTP/1.1 413")
    left = [path for path in Path(f"/proc/{daemon.pid}/fd").iterdir() if path.name not in files]
    assert not [path for path in left if "(deleted)" in str(path.readlink())]


def test_another_name(attacked: Http) -> None:
    """A name that somebody lets lead here gets nothing, and may do nothing."""
    for path in ("/", "/api/status", "/metrics", "/api/stream"):
        assert attacked.ask("GET", path, Host="evil.example").status == 403
    given = {"authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert attacked.ask("POST", "/api/state", {"state": "paused"}, **given).status == 403
    assert attacked.get("/api/status").json["state"] == "running"


def test_many_idle_connections(attacked: Http, daemon: Daemon, grid: Grid) -> None:
    """They make room for those who ask, and use up no file descriptors that the services need."""
    lines = len(daemon.every_line())
    with ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(connect(attacked))
        assert is_healthy(attacked)
        assert len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) < 250
        a_task_through(grid)
    assert len(daemon.every_line()) - lines < 50


def test_streams_that_nobody_reads(attacked: Http) -> None:
    """They hold no places for ever: some seconds later others can look."""
    with ExitStack() as opened:
        for _ in range(60):
            opened.enter_context(connect(attacked)).sendall(
                b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
        assert is_healthy(attacked)

        def looks() -> bool:
            with connect(attacked) as line:
                line.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return line.recv(100).startswith(b"HTTP/1.1 200")

        until(looks, "a place")


def test_many_requests(attacked: Http, grid: Grid) -> None:
    """While they wait for their answers a task is dispatched, and health is told."""
    stop: list[bool] = []

    def ask() -> None:
        while not stop:
            line = http.client.HTTPConnection("127.0.0.1", attacked.port, timeout=20)
            with closing(line), suppress(OSError, http.client.HTTPException):  # it may have to make room
                line.request("GET", "/api/workers?limit=1000")
                line.getresponse().read()

    askers = [Thread(target=ask) for _ in range(30)]
    for asker in askers:
        asker.start()
    try:
        a_task_through(grid)
        assert is_healthy(attacked)
    finally:
        stop.append(True)
        for asker in askers:
            asker.join()


def test_guessed_tokens(attacked: Http, daemon: Daemon) -> None:
    """Each is refused late; in the log are few lines, and no token."""
    began = time.monotonic()
    for guess in ("x", "secret-guess"):
        given = {"authorization": f"Bearer {guess}"}
        assert attacked.ask("POST", "/api/state", {"state": "stopped"}, **given).status == 401
    assert time.monotonic() - began > 1.9
    daemon.log.wait("HTTP_TOKEN_WRONG|127.0.0.1|")
    assert not [line for line in daemon.every_line() if "secret-guess" in line]


def test_few_file_descriptors(services: Services, tmp_path: Path, unique: str) -> None:
    """A process that may have few lets in fewer, so health is told and tasks go on."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, old[1]))
    try:
        with shown(services, tmp_path, unique) as (daemon, http_):
            resource.setrlimit(resource.RLIMIT_NOFILE, old)
            grid = Grid(services.amqp_url, daemon.prefix)
            with ExitStack() as opened:
                for _ in range(300):
                    opened.enter_context(connect(http_))
                assert is_healthy(http_)
                a_task_through(grid)
            assert "Too many open files" not in "".join(daemon.every_line())
            grid.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)


def test_the_file_of_a_socket(services: Services, tmp_path: Path, unique: str) -> None:
    """It is for its owner and group; another mode may be asked for."""
    for words, mode in (("", 0o660), (":mode=600", 0o600)):
        file = tmp_path / f"http{mode:o}"
        daemon = Daemon(
            services, tmp_path / f"{mode:o}", f"{unique}{mode:o}", *CALM, f"--http=unix:{file}{words}"
        )
        with running(daemon):
            daemon.log.wait("HTTP_LISTENING|")
            assert stat.S_IMODE(file.stat().st_mode) == mode
