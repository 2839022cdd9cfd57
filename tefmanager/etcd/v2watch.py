"""The v2 API's watch: an endless body with one JSON object per line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tefmanager.etcd import v2wire
from tefmanager.etcd.http import HttpClient
from tefmanager.etcd.jsonlines import read_lines
from tefmanager.etcd.v2wire import Result


async def watch(
    http: HttpClient,
    base: str,
    on_open: Callable[[], Awaitable[object]],
    on_change: Callable[[Result], None],
) -> None:
    """Report all changes below a base from now on, until Etcd ends the body (after minutes).

    ``on_open`` is called when the watch has begun, and must read everything. The watch can't begin at an
    earlier index: such a stream reports one change and then none. Raises `ReservationsLost`.
    """
    stream = await http.open(v2wire.request("GET", base, wait=True, recursive=True, stream=True))
    try:
        await on_open()
    except BaseException:
        stream.close()
        raise
    await read_lines(stream, lambda line: on_change(v2wire.read(line, stream.status, "watch")))
