"""Describes the machine, and the versions of everything that is measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pika
import psycopg2

import tefmanager
from benchmarks.services.bench import PEERS, Bench
from benchmarks.services.etcd import Etcd

OTHERS = ("celery", "dramatiq", "procrastinate", "distributed")
OURS = ("Twisted", "txAMQP", "txpostgres", "treq", "msgspec", "psycopg2-binary")


def describe(bench: Bench) -> dict[str, str]:
    """Return the machine and the versions, in the order in which they are shown."""
    return {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": f"{os.cpu_count()}",
        "machine": f"{_cpu()}, {_memory()} of RAM",
        "system": f"{_system()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "tef-manager": f"{tefmanager.__version__}, {_commit()}",
        "RabbitMQ": _rabbitmq(bench),
        "PostgreSQL": _postgresql(bench),
        "Etcd": _etcd(bench),
        "libraries": ", ".join(f"{name} {version(name)}" for name in OURS),
        "others": _others(),
    }


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _memory() -> str:
    found = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return f"{int(found[1]) / 1024**2:.0f} GiB" if found else "?"


def _system() -> str:
    found = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    return found[1] if found else platform.system()


def _commit() -> str:
    command = ["git", "log", "-1", "--format=commit %h of %cs"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no checkout"


def _rabbitmq(bench: Bench) -> str:
    with pika.BlockingConnection(pika.URLParameters(bench.amqp_url + "%2f")) as connection:
        about = connection._impl.server_properties
        erlang = about["platform"].decode() if isinstance(about["platform"], bytes) else about["platform"]
        number = about["version"]
        return f"{number.decode() if isinstance(number, bytes) else number} ({erlang})"


def _postgresql(bench: Bench) -> str:
    with closing(psycopg2.connect(**bench.database)) as connection, connection.cursor() as cursor:
        cursor.execute("show server_version")
        return str(cursor.fetchone()[0])


def _etcd(bench: Bench) -> str:
    with closing(Etcd(bench.etcd)) as etcd:
        return etcd.version()


def _others() -> str:
    python = PEERS / "python"
    if not python.exists():
        return "not installed"
    code = (
        "import importlib.metadata as m, json, sys; print(json.dumps([m.version(n) for n in sys.argv[1:]]))"
    )
    done = subprocess.run([str(python), "-c", code, *OTHERS], capture_output=True, text=True, check=True)
    return ", ".join(
        f"{name} {number}" for name, number in zip(OTHERS, json.loads(done.stdout), strict=True)
    )
