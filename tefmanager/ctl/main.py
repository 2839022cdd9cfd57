"""The command line of ``tefctl``."""

from __future__ import annotations

import sys

import click

from tefmanager import __version__
from tefmanager.config.secrets import KNOWN
from tefmanager.ctl import ask, command, dead, follow, history, migrate, resource_commands, submit, watch
from tefmanager.ctl.console import Seconds, Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.tables import safe

MOST_PATIENCE = 86400.0
"""The longest time to wait for an answer, in seconds."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--env", metavar="ENV", help="Environment: dev, test or prod. Same as the manager's option.")
@click.option("--config", metavar="FILE", help="The manager's INI file. Same as the manager's option.")
@click.option(
    "--name-prefix", metavar="NAME", help="The manager's name prefix. Same as the manager's option."
)
@click.option(
    "--timeout",
    type=Seconds(most=MOST_PATIENCE),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to wait for an answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for use in scripts.")
@click.version_option(__version__, prog_name="tefctl")
@click.pass_context
def cli(
    context: click.Context,
    env: str | None,
    config: str | None,
    name_prefix: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Query and control a tef-manager.

    tefctl finds the manager by the manager's own settings: its environment variables (TEF_ENV,
    TEF_AMQP_URL_<ENV> …) or its INI file.

    \b
    Examples:
      tefctl status
      tefctl submit tasks.json --wait
      tefctl explain task_123456
      tefctl --json tasks --state working

    \b
    Exit status: 0 success; 1 not found, refused, or a task failed; 2 wrong command line;
    3 wrong configuration; 4 RabbitMQ unreachable; 5 no manager, or no answer; 6 Etcd unreachable;
    7 PostgreSQL unreachable, or in use by an active manager; 130 Ctrl-C while it waited for tasks.
    """
    options: dict[str, object] = {"env": env, "config": config, "name-prefix": name_prefix}
    context.obj = Session(options, timeout, as_json)


for module in (ask, history, command, submit, resource_commands, dead, watch, follow, migrate):
    for each in module.COMMANDS:
        cli.add_command(each)


def main() -> None:
    """Run ``tefctl``."""
    try:
        cli(prog_name="tefctl")
    except CtlError as error:
        click.echo(f"tefctl: {safe(KNOWN.hide(str(error)))}", err=True)
        sys.exit(error.status)
    except OSError as error:  # such as a full disk under standard output; click handles a closed pipe
        click.echo(f"tefctl: {safe(KNOWN.hide(error.strerror or str(error)))}", err=True)
        sys.exit(Exit.NO)
