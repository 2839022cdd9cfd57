"""libpq's lists of hosts, and the texts of its errors."""

from __future__ import annotations

import psycopg2
import pytest

from tefmanager.store.failures import reason
from tefmanager.store.hostlist import Endpoint, Keywords, endpoints

LISTS: list[tuple[Keywords, list[Endpoint]]] = [
    ({}, [Endpoint("", "")]),
    ({"host": "db", "port": 5433}, [Endpoint("db", "5433")]),
    ({"host": "a,b", "port": "1,2"}, [Endpoint("a", "1"), Endpoint("b", "2")]),
    ({"host": "a, b"}, [Endpoint("a", ""), Endpoint("b", "")]),
    ({"host": "a,b", "port": "7"}, [Endpoint("a", "7"), Endpoint("b", "7")]),
    ({"host": "a", "hostaddr": "10.0.0.1"}, [Endpoint("a", "", "10.0.0.1")]),
    ({"host": "a,b", "port": ",2"}, [Endpoint("a", ""), Endpoint("b", "2")]),
]


@pytest.mark.parametrize(("dsn", "expected"), LISTS)
def test_lists_of_hosts(dsn: Keywords, expected: list[Endpoint]) -> None:
    """As libpq reads them: one port for all, or one for each."""
    assert endpoints(dsn) == expected


def test_lists_that_do_not_go_together() -> None:
    """Two ports for three hosts are a mistake."""
    with pytest.raises(ValueError, match="ports"):
        endpoints({"host": "a,b,c", "port": "1,2"})


@pytest.mark.parametrize(
    ("host", "is_name"),
    [("db.example", True), ("10.0.0.1", False), ("::1", False), ("/run/postgresql", False), ("", False)],
)
def test_what_has_to_be_looked_up(host: str, is_name: bool) -> None:
    """Names, but neither addresses nor folders of sockets."""
    assert Endpoint(host, "1").is_name is is_name


def test_a_place_for_people() -> None:
    """Host and port, an IPv6 address in brackets; no port where libpq is to find it."""
    assert [str(Endpoint("db", "1")), str(Endpoint("::1", "2"))] == ["db:1", "[::1]:2"]
    assert [str(Endpoint("db", "")), str(Endpoint("::1", ""))] == ["db", "[::1]"]
    assert str(Endpoint("db", "1", "10.0.0.7")) == "db (10.0.0.7):1"
    assert str(Endpoint("", "1", "10.0.0.7")) == "10.0.0.7:1"


def test_what_libpq_is_told() -> None:
    """Only what is known."""
    assert Endpoint("db", "1", "10.0.0.1").keywords == {"host": "db", "port": "1", "hostaddr": "10.0.0.1"}
    assert Endpoint("db", "1").keywords == {"host": "db", "port": "1", "hostaddr": ""}
    assert Endpoint("", "1").keywords == {"port": "1"}
    assert Endpoint("", "").keywords == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'connection to server at "127.0.0.1", port 5 failed: FATAL:  no pg_hba.conf entry\n',
            "no pg_hba.conf entry",
        ),
        (
            'connection to server at "db" (10.0.0.1), port 5 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?\n",
            "Connection refused",
        ),
        ("", "OperationalError"),
    ],
)
def test_reasons_are_one_line(text: str, expected: str) -> None:
    """Without what every error of libpq begins with."""
    assert reason(psycopg2.OperationalError(text)) == expected
