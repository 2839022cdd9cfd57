"""A plain HTTP client, and a daemon that it can query."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tefmanager.sandbox.machine import free_ports
from tests.integration.daemon import CALM, Daemon, running
from tests.services import Services

TOKEN = "let-me-in-0123456789"


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded from JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Http:
    """Sends requests to a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def url(self) -> str:
        """The page's URL."""
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send a request and return its answer; a body that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, raw, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """Send a GET request."""
        return self.ask("GET", path)

    def do(self, path: str, body: object = None, token: str = TOKEN) -> Answer:
        """Send a POST request with the token."""
        return self.ask("POST", path, body, authorization=f"Bearer {token}")

    @contextmanager
    def stream(self) -> Iterator[Iterator[Any]]:
        """Follow the server-sent events; each is decoded from JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/api/stream")
            answer = connection.getresponse()
            assert answer.getheader("content-type") == "text/event-stream"
            lines = iter(answer.readline, b"")
            yield (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
        finally:
            connection.close()


@contextmanager
def shown(services: Services, folder: Path, name: str, *options: str) -> Iterator[tuple[Daemon, Http]]:
    """Run a daemon that serves HTTP and has a token."""
    port = free_ports(1)[0]
    file = folder / "token"
    file.write_text(f"{TOKEN}\n")
    endpoint = f"--http=tcp:{port}:interface=127.0.0.1"
    daemon = Daemon(services, folder, name, *CALM, endpoint, f"--http-token-file={file}", *options)
    with running(daemon):
        yield daemon, Http(port)
