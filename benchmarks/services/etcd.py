"""Creates and removes the resources in Etcd, through either of its APIs."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

BASE = "/tef/dev/resources"

_MOST_OPERATIONS = 120
"""Etcd allows 128 operations in a transaction."""


class Etcd:
    """A connection to Etcd.

    Args:
        address: host and port.
        api: ``v2`` or ``v3``.
    """

    def __init__(self, address: tuple[str, int], api: str = "v3") -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=20)
        self._connection.connect()
        self._api = api

    def clear(self) -> None:
        """Remove all resources."""
        if self._api == "v2":
            self._ask("DELETE", f"/v2/keys{BASE}?recursive=true", "", (200, 404))
        else:
            end = BASE[:-1] + chr(ord(BASE[-1]) + 1)
            self._post("deleterange", {"key": _encoded(BASE), "range_end": _encoded(end)})

    def make(self, names: Iterable[str], limit: int, available: int = 1) -> None:
        """Create resources of which no reference is held."""
        fields = {"ref_count": "0", "ref_limit": str(limit), "available": str(available)}
        pairs = [(f"{BASE}/{name}/{field}", value) for name in names for field, value in fields.items()]
        if self._api == "v2":
            for key, value in pairs:
                self._ask("PUT", f"/v2/keys{key}", urlencode({"value": value}), (200, 201))
        for start in range(0, len(pairs) if self._api == "v3" else 0, _MOST_OPERATIONS):
            self.transact(pairs[start : start + _MOST_OPERATIONS])

    def transact(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Put several keys in one transaction (v3)."""
        puts = [{"requestPut": {"key": _encoded(key), "value": _encoded(value)}} for key, value in pairs]
        self._post("txn", {"success": puts})

    def version(self) -> str:
        """Return the server's version."""
        return str(self._ask("GET", "/version", "", (200,))["etcdserver"])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, what: str, question: dict[str, Any]) -> None:
        self._ask("POST", f"/v3/kv/{what}", json.dumps(question), (200,))

    def _ask(self, method: str, path: str, body: str, good: tuple[int, ...]) -> Any:
        kind = "application/json" if method == "POST" else "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, {"Content-Type": kind})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status not in good:
            raise OSError(f"Etcd: {method} {path}: {response.status} {answer[:200]!r}")
        return json.loads(answer)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
