"""The bounds that ``docs/security.md`` promises are those of the program."""

from __future__ import annotations

import re

import pytest

from tefmanager.amqp import consumer
from tefmanager.config import settings
from tefmanager.config.config import LogConfig
from tefmanager.core.model.limits import Memory
from tefmanager.engine import deliveries
from tefmanager.inquiry import inquirer
from tefmanager.logfile import outputs
from tefmanager.protocol import catalogue, fields, messages
from tefmanager.status import api, gate, journal, meter, site, stream
from tests.paths import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
MIB = 1024 * 1024


def row(start: str) -> str:
    """Return what the page says of a bound."""
    [found] = re.findall(rf"^\| {re.escape(start)}[^|]* \| (.*) \|$", PAGE, re.MULTILINE)
    return str(found)


@pytest.mark.parametrize(
    ("start", "promised"),
    [
        ("a message", f"{int(settings.MESSAGE_LIMIT.default) // MIB} MiB"),
        ("a field of a message", f"{fields.LONGEST_VALUE:,} bytes"),
        ("a field of a message", f"{fields.LONGEST_LIST // MIB} MiB"),
        ("a field of a message", f"resources {messages.MOST_RESOURCES:,}"),
        ("messages that are in", f"{consumer.PREFETCH:,}, and {consumer.BYTE_LIMIT // MIB} MiB"),
        ("tasks in memory", f"{Memory().tasks:,}"),
        ("answers that are being sent", f"{deliveries.ANSWERS // MIB} MiB"),
        ("answers that are being sent", f"above {2 * deliveries.ANSWERS // MIB} MiB"),
        ("questions that wait", f"{inquirer.MOST_ASKED:,}, of which a turn answers {inquirer.AT_ONCE}"),
        ("a field in the log", f"{catalogue.LONGEST_FIELD:,} characters"),
        ("a field in the log", f"{LogConfig().excerpt} ("),
        ("log lines that", f"{outputs.KEPT // 1024} KiB"),
        ("last events", str(journal.LAST)),
        ("task types", str(meter.TYPES)),
        ("connections to the page", f"{2 * stream.MOST}, of which half"),
        ("a request to it", f"{site.Channel.totalHeadersSize // 1024} KiB"),
        ("a request to it", f"{api.LONGEST_BODY:,} bytes"),
        ("wrong tokens", {1.0: "one a second"}[gate.DELAY]),
    ],
)
def test_bounds(start: str, promised: str) -> None:
    """Each number stands on the page as it is."""
    assert promised in row(start)
