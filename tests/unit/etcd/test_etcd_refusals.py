"""Which errors of Etcd concern one request, and which the service: in its own words."""

from __future__ import annotations

import json

import pytest

from tefmanager.etcd.refusals import Limit, RequestRefused, impossible, of_v2, of_v3

V3 = [
    (3, "etcdserver: too many operations in txn request", True, Limit.OPERATIONS),
    (3, "etcdserver: request is too large", True, Limit.SIZE),
    (8, "grpc: received message larger than max (1000015 vs. 526288)", True, Limit.SIZE),
    (3, "etcdserver: duplicate key given in txn request", True, None),
    (7, "etcdserver: permission denied", True, None),
    (3, "etcdserver: user name is empty", False, None),
    (8, "etcdserver: mvcc: database space exceeded", False, None),
    (8, "etcdserver: too many requests", False, None),
    (9, "etcdserver: authentication is not enabled", False, None),
    (14, "etcdserver: no leader", False, None),
    (14, "etcdserver: request timed out", False, None),
    (16, "etcdserver: invalid auth token", False, None),
    (13, "etcdserver: unknown", False, None),
]


@pytest.mark.parametrize(("code", "error", "own", "limit"), V3)
def test_v3(code: int, error: str, own: bool, limit: Limit | None) -> None:
    """The gateway's errors, as Etcd 3.4 words them."""
    found = of_v3(json.dumps({"error": error, "message": error, "code": code}).encode(), "text")
    assert isinstance(found, RequestRefused) is own
    if isinstance(found, RequestRefused):
        assert (found.limit, found.fault) == (limit, error.removeprefix("etcdserver: "))


@pytest.mark.parametrize("body", [b"", b"forbidden", b"[]", b"<html>", b'{"code":"x"}'])
def test_what_is_no_error_of_etcd(body: bytes) -> None:
    """It concerns everything."""
    assert not isinstance(of_v3(body, "text"), RequestRefused)


@pytest.mark.parametrize(
    ("code", "own"),
    [
        (0, False),
        (102, True),
        (104, True),
        (107, True),
        (201, True),
        (209, True),
        (300, False),
        (401, False),
    ],
)
def test_v2(code: int, own: bool) -> None:
    """The numbers of the v2 API's errors: from 300 on the server is in trouble."""
    assert isinstance(of_v2(code, "Not a directory: /a", "text"), RequestRefused) is own


def test_the_reason() -> None:
    """It names the resources, not too many of them, and says what Etcd said."""
    assert impossible(1, ["a"], "no").reason == "resource a: Etcd refuses: no"
    names = [f"r{number}" for number in range(7)]
    assert impossible(1, names, "no").reason == "resources r0, r1, r2, r3, r4 and 2 more: Etcd refuses: no"
