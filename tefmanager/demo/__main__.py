"""``python -m tefmanager.demo``: the command line of the demo."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType


class Stopped(BaseException):
    """A signal asks the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=os.environ.get("TEF_DEMO_NAME", "python -m tefmanager.demo"),
        description="Starts a private RabbitMQ, PostgreSQL and Etcd, the manager and some workers, and "
        "shows how a suite of tasks that compete for three resources is completed. Ends with exit status "
        "0 if every task has its result, 1 if anything was lost or went wrong. Leaves nothing behind.",
    )
    add = parser.add_argument
    add("--tasks", type=_between(1, 1000), default=36, help="how many tasks (default: %(default)s)")
    add(
        "--workers",
        type=_between(0, 50),
        default=6,
        help="workers, of two types in turn; with less than two some "
        "tasks find none (default: %(default)s)",
    )
    add("--etcd-api", choices=("v2", "v3"), default="v3", help="Etcd's interface (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=1,
        help="seed of the suite: another number makes another suite (default: %(default)s)",
    )
    add(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="time after which a task without a result counts as lost (default: %(default)g)",
    )
    add(
        "--plain",
        action="store_true",
        help="lines instead of a live display, as when the output is no terminal",
    )
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return count


def main(arguments: Sequence[str]) -> int:
    """Run the demo and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        return _run(options)
    except Stopped as stopped:
        return 128 + stopped.number


def _run(options: argparse.Namespace) -> int:
    # Imported late, so that --help needs only Python.
    try:
        from rich.console import Console

        from tefmanager.demo.play import DemoError, DemoOptions, play
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} not found: run script/demo, which installs it")
    console = Console()
    plain = options.plain or not console.is_terminal or console.is_dumb_terminal
    try:
        play(DemoOptions(**{**vars(options), "plain": plain}), console)
    except DemoError as error:
        return _complain(str(error))
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _complain(text: str) -> int:
    print(text, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
