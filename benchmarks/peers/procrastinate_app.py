"""procrastinate: PostgreSQL, asynchronous tasks."""

from __future__ import annotations

import os

import procrastinate

from benchmarks.peers.record import done
from benchmarks.peers.submit import submit

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"]),
    import_paths=["benchmarks.peers.procrastinate_app"],
)


@app.task(name="task")
async def task(number: int) -> None:
    """Only count."""
    done(number)


def main() -> None:
    """Submit, each task in a transaction of its own."""
    connector = procrastinate.SyncPsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"])
    with app.replace_connector(connector) as sync, sync.open():
        configured = sync.configure_task("task")
        submit(lambda number: configured.defer(number=number))


if __name__ == "__main__":
    main()
