"""The sandbox's page: it has an address that is printed, and no other manager's."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from tefmanager.config.config import Config, config_from
from tefmanager.config.http_settings import HttpConfig
from tefmanager.service.sandboxed import page_address, with_own_page


def config(endpoint: str, asked: bool = False) -> Config:
    """Return a sandbox's configuration with a place for the page."""
    return replace(config_from({"sandbox": True}, {}), http=HttpConfig(endpoint, asked))


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("tcp:8090:interface=127.0.0.1", "http://127.0.0.1:8090/"),
        ("tcp:8091", "http://127.0.0.1:8091/"),
        ("tcp:port=8091:interface=grid.example.com", "http://grid.example.com:8091/"),
        ("unix:/run/http", "unix:/run/http"),
        ("tcp:0", "tcp:0"),
        ("", ""),
    ],
)
def test_address(endpoint: str, address: str) -> None:
    """A TCP port on this machine is shown as a URL, and all else as it was given."""
    assert page_address(endpoint) == address


def test_a_port_that_is_taken() -> None:
    """The default gives way to a free port; a place that somebody asked for stays."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        assert with_own_page(config(endpoint)).http.endpoint not in (endpoint, "")
        assert with_own_page(config(endpoint, asked=True)).http.endpoint == endpoint
    assert with_own_page(config(endpoint)).http.endpoint == endpoint


@pytest.mark.parametrize("endpoint", ["", "unix:/run/http"])
def test_no_port(endpoint: str) -> None:
    """Where the page has no port, nothing changes."""
    assert with_own_page(config(endpoint)).http.endpoint == endpoint
