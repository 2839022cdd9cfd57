"""The v3 gateway's watch: an endless body with one JSON object per line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tefmanager.etcd import v3wire
from tefmanager.etcd.http import HttpClient
from tefmanager.etcd.jsonlines import read_lines
from tefmanager.interfaces.etcd import ReservationsLost


async def watch(
    http: HttpClient, begin: bytes, start_revision: int, on_events: Callable[[Sequence[v3wire.Event]], None]
) -> None:
    """Report the events of all keys with this prefix, from a revision on, until the body ends.

    Raises `ReservationsLost` if the connection breaks or Etcd cancels the watch, for example because the
    revision was compacted. Then everything must be read again.
    """
    create = {
        "create_request": {
            "key": begin,
            "range_end": v3wire.end_of_prefix(begin),
            "start_revision": start_revision,
        }
    }
    stream = await http.open(v3wire.request("watch", create))
    await read_lines(stream, lambda line: _line(line, on_events))


def _line(line: bytes, on_events: Callable[[Sequence[v3wire.Event]], None]) -> None:
    message = v3wire.decode(line, v3wire.WatchLine, "watch")
    result = message.result
    if result is None:
        raise ReservationsLost(f"etcd's watch: {v3wire.text(line[:200])}")
    if result.events:
        on_events(result.events)
    if result.canceled or result.compact_revision:
        reason = result.cancel_reason or f"compacted at revision {result.compact_revision}"
        raise ReservationsLost(f"etcd cancelled the watch: {reason}")
