"""AMQP URIs: what they mean, and that no error or text shows a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.config.endpoints import AmqpEndpoint, parse_amqp_url


@pytest.mark.parametrize(
    ("url", "host", "port", "vhost"),
    [
        ("amqp://", "127.0.0.1", 5672, "/"),
        ("amqp://broker", "broker", 5672, "/"),
        ("amqp://broker/", "broker", 5672, ""),
        ("amqp://broker/%2f", "broker", 5672, "/"),
        ("amqp://broker/%2F", "broker", 5672, "/"),
        ("amqp://broker:10000/vhost", "broker", 10000, "vhost"),
        ("amqp://broker/v%2fhost", "broker", 5672, "v/host"),
        ("amqp://br%61ker/", "braker", 5672, ""),
        ("amqp://[::1]", "::1", 5672, "/"),
        ("amqp://[::1]:10000/x", "::1", 10000, "x"),
        ("amqps://broker/x", "broker", 5671, "x"),
        ("AMQPS://broker/x", "broker", 5671, "x"),
        (" amqp://broker ", "broker", 5672, "/"),
    ],
)
def test_place(url: str, host: str, port: int, vhost: str) -> None:
    """Host, port and vhost are found as the URI specification says."""
    endpoint = parse_amqp_url(url)
    assert (endpoint.host, endpoint.port, endpoint.vhost) == (host, port, vhost)
    assert endpoint.tls is url.lower().strip().startswith("amqps")


@pytest.mark.parametrize(
    ("account", "user", "password"),
    [
        ("", "guest", "guest"),
        ("u:p@", "u", "p"),
        ("u@", "u", ""),
        (":@", "", ""),
        ("us%65r:p%40%2F%3a@", "user", "p@/:"),
        ("u:p:q@", "u", "p:q"),
        ("%C3%A9:%E2%82%AC@", "é", "€"),
    ],
)
def test_account(account: str, user: str, password: str) -> None:
    """User and password are percent-decoded; without any, it is the guest."""
    endpoint = parse_amqp_url(f"amqp://{account}host")
    assert (endpoint.user, endpoint.password) == (user, password)


def test_query() -> None:
    """The heartbeat is taken out of the query; the other keys are kept by name, decoded."""
    endpoint = parse_amqp_url("amqps://h/v?heartbeat=7&cacertfile=%2Fetc%2Fca.pem&verify=verify_peer")
    assert endpoint.heartbeat == 7
    assert dict(endpoint.options) == {"cacertfile": "/etc/ca.pem", "verify": "verify_peer"}


def test_heartbeat_off() -> None:
    """A heartbeat of 0 is a heartbeat of 0, not the default."""
    assert parse_amqp_url("amqp://h?heartbeat=0").heartbeat == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://u:hunter2@h",
        "u:hunter2@h",
        "amqp://u:hunter2@h:port",
        "amqp://u:hunter2@h:0",
        "amqp://u:hunter2@h:99999",
        "amqp://u:hunter2@h/a/b",
        "amqp://u:hunter2@h/v#x",
        "amqp://u:hunter2@h/v?heartbeat=often",
        "amqp://u:hunter2@h/v?heartbeat=-1",
        "amqp://u:hunter2@h/v?heartbeat=70000",
        "amqp://u:hunter2@h/v?colour=red",
        "amqp://u:hunter2@[h/v",
        "amqp://u:hunter2%ff@h",
        "amqp://u:/hunter2@h",
        "amqp://u:1/hunter2@h",
        "amqp://u:1/x/hunter2@h",
        "amqp://u:1?hunter2@h",
        "amqp://u:1#hunter2@h",
        "amqp://u:hunter2@h/" + "v" * 256,
        "amqp://u:hunter2@mq_1/",
        "amqp://u:hunter2@mq..example/",
        "amqp://u:hunter2@-mq/",
    ],
)
def test_bad_url(url: str) -> None:
    """What can't be an AMQP URI is refused, and the error does not quote the password."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        parse_amqp_url(url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_password_hidden() -> None:
    """Neither text form of an endpoint shows the password."""
    endpoint = AmqpEndpoint(host="::1", user="u", password="hunter2", vhost="v")
    assert "hunter2" not in repr(endpoint) + str(endpoint)
    assert str(endpoint) == "[::1]:5672, vhost v"


def test_hashable() -> None:
    """Endpoints can be keys, with options too."""
    urls = ["amqp://h?verify=verify_none", "amqp://h?verify=verify_none", "amqp://h"]
    assert len({parse_amqp_url(url) for url in urls}) == 2


@given(st.text())
def test_any_text(text: str) -> None:
    """Any text is parsed or refused with a ValueError, nothing else."""
    try:
        parse_amqp_url("amqp://" + text)
    except ValueError as error:
        assert str(error)
