"""The v3 gateway's watch: an endless body, one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tefmanager.etcd import v3wire
from tefmanager.etcd.http import HttpClient
from tefmanager.interfaces import ReservationsLost


async def watch(
    http: HttpClient, begin: bytes, start_revision: int, on_events: Callable[[Sequence[v3wire.Event]], None]
) -> None:
    """Hand on the events of all keys that begin so, from a revision on, until the body ends.

    Raises `ReservationsLost` where the connection breaks or Etcd cancels the watch (the revision was
    compacted away, for one): then everything has to be read anew.
    """
    create = {
        "create_request": {
            "key": begin,
            "range_end": v3wire.end_of_prefix(begin),
            "start_revision": start_revision,
        }
    }
    lines = _Lines(on_events)
    answer = await http.stream(v3wire.request("watch", create), lines.received)
    if answer.status != 200:
        raise ReservationsLost(v3wire.refusal(answer))


class _Lines:
    """Cuts a body into lines and hands on the events in them."""

    def __init__(self, on_events: Callable[[Sequence[v3wire.Event]], None]) -> None:
        self._on_events = on_events
        self._rest: list[bytes] = []

    def received(self, data: bytes) -> None:
        if b"\n" not in data:
            self._rest.append(data)
            return
        *lines, rest = b"".join([*self._rest, data]).split(b"\n")
        self._rest = [rest] if rest else []
        for line in lines:
            if line:
                self._line(line)

    def _line(self, line: bytes) -> None:
        message = v3wire.decode(line, v3wire.WatchLine, "watch")
        result = message.result
        if result is None:
            raise ReservationsLost(f"etcd's watch: {v3wire.text(bytes(message.error))[:200]}")
        if result.events:
            self._on_events(result.events)
        if result.canceled or result.compact_revision:
            reason = result.cancel_reason or f"compacted at revision {result.compact_revision}"
            raise ReservationsLost(f"etcd cancelled the watch: {reason}")
