"""A database that takes nothing, and a quorum queue that drops what goes back to it too often."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.integration.amqp_support import rabbitmqctl
from tests.integration.daemon import Daemon, running
from tests.integration.grid_client import Grid, fresh
from tests.services import Services

COUNT = 60
LIMIT = 3
"""Times that a message may go back to its queue; 20 in RabbitMQ 4, but nobody wants to wait for that."""

FULL = """
create function {name}() returns trigger language plpgsql as $$
begin
    raise exception 'could not extend file: No space left on device' using errcode = '53100';
end $$;
create trigger {name} before insert on {table} for each row when ({when}) execute function {name}()
"""


@pytest.fixture
def vhost(services: Services, tmp_path: Path, unique: str) -> Iterator[str]:
    """A vhost whose queues are quorum queues with a limit."""
    definitions = {
        "vhosts": [{"name": unique, "metadata": {"default_queue_type": "quorum"}}],
        "permissions": [{"user": "guest", "vhost": unique, "configure": ".*", "write": ".*", "read": ".*"}],
    }
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(definitions))
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    rabbitmqctl(services, "import_definitions", str(file))
    limit = json.dumps({"delivery-limit": LIMIT})
    rabbitmqctl(services, "set_policy", "-p", unique, "limit", ".*", limit, "--apply-to", "queues")
    yield unique
    rabbitmqctl(services, "delete_vhost", unique)


@contextmanager
def full(services: Services, daemon: Daemon, when: str) -> Iterator[None]:
    """Let the database take no new tasks of which something is true."""
    table = daemon.table("tasks")
    connection = psycopg2.connect(**services.database)
    connection.autocommit = True
    name = fresh("full").replace("-", "_")
    with connection.cursor() as cursor:
        cursor.execute(FULL.format(name=name, table=f'"{table}"', when=when))
        yield
        cursor.execute(f'drop trigger {name} on "{table}"; drop function {name}()')
    connection.close()


@pytest.mark.parametrize(
    ("when", "told"),
    [("true", "WAITING_FOR|database"), ("new.guid <> 'probe'", "LEADERSHIP_LOST|")],
    ids=["seen by the probe", "not seen by it"],
)
def test_no_message_is_dropped(
    services: Services, tmp_path: Path, unique: str, vhost: str, when: str, told: str
) -> None:
    """Meanwhile no leadership begins, or each risks one message; afterwards all tasks are taken in."""
    url = {"TEF_AMQP_URL_DEV": services.amqp_url + vhost}
    with running(Daemon(services, tmp_path, unique, variables=url)) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix, vhost)
        with full(services, daemon, when):
            for _ in range(COUNT):
                grid.task("kind")
            daemon.log.wait(told, count=1 if when == "true" else 2)
            lost = len(daemon.log.events("LEADERSHIP_LOST|"))
            if when == "true":
                time.sleep(4.0)  # none begins again: every one would put messages at risk
                assert len(daemon.log.events("LEADERSHIP_LOST|")) == lost == 1
                assert "No space left on device" in daemon.log.events(told)[-1]
        accepted = daemon.log.wait("TASK_ACCEPTED|", COUNT)
        assert len({line.split("|")[2] for line in accepted}) == COUNT
        grid.close()
