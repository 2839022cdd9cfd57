"""What all submitting programs share: number and rate of tasks, and the output at the end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable


def submit(send: Callable[[int], object], finish: Callable[[], object] = lambda: None) -> None:
    """Submit tasks, print the times, and wait for whatever must still happen.

    Prints the times of all tasks, or of the first and the last one, as a line of JSON.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int, help="number of the first task")
    parser.add_argument("count", type=int)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds from each to the next")
    options = parser.parse_args()
    times = []
    for number in range(options.first, options.first + options.count):
        times.append(time.monotonic())
        send(number)
        if options.pause:
            time.sleep(options.pause)
    told = {"first": times[0], "last": time.monotonic(), "times": times if options.pause else []}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    finish()
