"""dask.distributed: a scheduler that keeps everything in memory, and a worker with threads."""

from __future__ import annotations

import os

from distributed import Client, wait

from benchmarks.peers.record import done
from benchmarks.peers.submit import submit

EACH = int(os.environ.get("BENCH_RESOURCES", "0"))
COUNT = 20


def resources_of(number: int) -> dict[str, int] | None:
    """Return what a task needs, the same as our tasks."""
    return {f"r{(number * EACH + step) % COUNT}": 1 for step in range(EACH)} or None


def main() -> None:
    """Submit, and stay until all tasks are done: they would end together with the client."""
    with Client(os.environ["BENCH_SCHEDULER"]) as client:
        futures = []

        def send(number: int) -> None:
            futures.append(client.submit(done, number, pure=False, resources=resources_of(number)))

        submit(send, lambda: wait(futures))


if __name__ == "__main__":
    main()
