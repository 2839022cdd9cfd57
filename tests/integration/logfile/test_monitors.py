"""The monitors in ``conf/``, run by the real programs on a log that the daemon wrote."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tefmanager.protocol.catalogue import CATALOGUE
from tests.integration.debian import UNPACKED, program
from tests.integration.grid_client import Grid, ReadmeWorker, RubyWorker, fresh
from tests.integration.logged import LoggedDaemon
from tests.paths import ROOT
from tests.services import Services

CONF = ROOT / "conf"
OPTIONS = ("--dispatch-interval=60", "--dispatch-timeout=1", "--release-grace=0.3", "--max-attempts=1")
SETTLED = (
    "COMPLETION_IGNORED|",
    "DELIVERIES_LOST|",
    "DISPATCH_UNCERTAIN|",
    "HTTP_UNAVAILABLE|",
    "TASK_DUPLICATE|",
)
"""Events above information that nobody has to look at."""


class Story:
    """What a daemon logged of a short life with all that goes wrong in one.

    Attributes:
        file: the log.
        lines: its lines, as (level, text).
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        found = [re.fullmatch(r"\S+ ([a-z]+) (.*)", line) for line in file.read_text().splitlines()]
        self.lines = [(match[1], match[2]) for match in found if match]
        assert len(self.lines) == len(found)

    def count(self, start: str) -> int:
        """Count the events that begin with a text."""
        return sum(text.startswith(start) for _, text in self.lines)

    def fields(self, name: str, *places: int) -> Counter[tuple[str, ...]]:
        """Count the events of a name by some of their fields."""
        found = (text.split("|") for _, text in self.lines if text.startswith(f"{name}|"))
        return Counter(tuple(each[place] for place in places) for each in found)


@pytest.fixture(scope="module")
def story(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A daemon's log, with tasks that are done, given up, sent twice, dead or no tasks at all."""
    daemon = LoggedDaemon(services, tmp_path_factory.mktemp("story"), fresh("story"), *OPTIONS)
    daemon.start()
    grid = Grid(services.amqp_url, daemon.prefix)
    try:
        tell(grid, daemon)
        daemon.stop()
    finally:
        grid.close()
        daemon.end()
    yield Story(daemon.file)


def tell(grid: Grid, daemon: LoggedDaemon) -> None:
    """Let all of it happen."""
    kind = fresh("kind")
    worker = RubyWorker(grid, kind)
    worker.free()
    for _ in range(3):
        guid = grid.task(kind)
        received = worker.expect()
        worker.begin(received)
        daemon.log.wait(f"TASK_WORKING|{kind}|{guid}|")  # however busy the machine is
        grid.serve(0.16)  # so that there is a time to measure
        worker.finish(received)
    daemon.log.wait(f"TASK_COMPLETED|{kind}|{guid}")
    given_up = grid.task(kind)
    worker.begin(worker.expect())
    worker.say("idle")
    daemon.log.wait(f"TASK_DEAD|{kind}|{given_up}")
    twice = grid.task(fresh("nobody"), guid=fresh("twice"))
    grid.task(fresh("nobody"), guid=twice)
    grid.send(b"no JSON")
    grid.send({"type": "task", "guid": "x"})
    grid.send({"type": "worker_status", "name": worker.name, "status": "dancing", "exchange_name": "x"})
    grid.send({"type": "set_state", "data": "asleep"})
    gone = ReadmeWorker(grid, fresh("gone"))
    gone.vanish()
    gone.free()
    grid.task(gone.worker_type)
    daemon.log.wait("DISPATCH_FAILED|")
    worker.say("offline")
    grid.settle()


# --- mtail ---


@pytest.fixture(scope="module")
def metrics(story: Story) -> dict[str, float]:
    """What mtail makes of the log, by name and labels as Prometheus reads them."""
    command = [
        *(program("mtail", "mtail"), "--one_shot", "--one_shot_format=prometheus", "--logtostderr"),
        *(f"--progs={CONF / 'tef-manager.mtail'}", f"--logs={story.file}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^[EF]\d{4} |runtime error", done.stderr, re.MULTILINE), done.stderr
    found = re.findall(r"^(tef_\w+)(?:\{(.*)\})? (\S+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return {f"{name}{{{without_program(labels)}}}": float(value) for name, labels, value in found}


def without_program(labels: str) -> str:
    """Return labels without the one that names the program."""
    return ",".join(each for each in labels.split(",") if not each.startswith("prog=") and each)


def labelled(metrics: dict[str, float], name: str) -> dict[str, float]:
    """Return a metric's values by their labels."""
    found = re.compile(rf"{name}\{{(.*)\}}")
    return {match[1]: value for key, value in metrics.items() if (match := found.fullmatch(key))}


COUNTERS: dict[str, tuple[str, dict[str, int]]] = {
    "tef_tasks_accepted_total": ("TASK_ACCEPTED", {"task_type": 1}),
    "tef_tasks_duplicate_total": ("TASK_DUPLICATE", {"task_type": 1}),
    "tef_tasks_rejected_total": ("TASK_REJECTED", {}),
    "tef_tasks_completed_total": ("TASK_COMPLETED", {"task_type": 1}),
    "tef_tasks_released_total": ("TASK_RELEASED", {"task_type": 1, "reason": 5}),
    "tef_tasks_dead_total": ("TASK_DEAD", {"task_type": 1}),
    "tef_dispatches_total": ("DISPATCH", {"task_type": 1}),
    "tef_workers_registered_total": ("WORKER_REGISTERED", {"worker_type": 2}),
    "tef_workers_missing_total": ("WORKER_MISSING", {"worker_type": 2}),
    "tef_workers_offline_total": ("CONTROL_SUCCESS", {}),
}
"""Event, and where in it the labels stand, of each counter that the story has something for."""


@pytest.mark.parametrize("name", COUNTERS)
def test_mtail_counts(story: Story, metrics: dict[str, float], name: str) -> None:
    """Each counter has the number of lines of its event, for each value of its labels."""
    event, labels = COUNTERS[name]
    expected = {
        ",".join(sorted(f'{label}="{value}"' for label, value in zip(labels, values, strict=True))): count
        for values, count in story.fields(event, *labels.values()).items()
    }
    assert expected
    assert {
        ",".join(sorted(key.split(",") if key else [])): value
        for key, value in labelled(metrics, name).items()
    } == expected


def test_mtail_counts_levels(story: Story, metrics: dict[str, float]) -> None:
    """Every line is counted, those that are no events as well."""
    levels = Counter(level for level, _ in story.lines)
    assert labelled(metrics, "tef_log_lines_total") == {f'level="{k}"': n for k, n in levels.items()}


def test_mtail_counts_what_is_wrong(story: Story, metrics: dict[str, float]) -> None:
    """Bad messages and failed dispatches, by what was wrong."""
    assert labelled(metrics, "tef_bad_messages_total") == {
        'kind="message_error"': story.count("MESSAGE_ERROR|"),
        'kind="invalid_json"': story.count("INVALID_JSON|"),
        'kind="control_failed"': story.count("CONTROL_FAILED|"),
    }
    failed = labelled(metrics, "tef_dispatches_failed_total")
    assert sum(failed.values()) == story.count("DISPATCH_FAILED|") == 1
    assert labelled(metrics, "tef_leaderships_total") == {'what="gained"': 1}


def test_mtail_measures_times(story: Story, metrics: dict[str, float]) -> None:
    """To the millisecond: how long tasks waited, and how long they took."""
    [(kind,)] = [key for key, count in story.fields("TASK_COMPLETED", 1).items() if count == 3]
    label = f'task_type="{kind}"'
    assert labelled(metrics, "tef_task_run_seconds_count")[label] == 3
    assert 0.45 <= labelled(metrics, "tef_task_run_seconds_sum")[label] < 60
    assert labelled(metrics, "tef_task_wait_seconds_count")[label] == 4
    assert 0 < labelled(metrics, "tef_task_wait_seconds_sum")[label] < 60
    assert f'task_type="{kind}",le="0.1"' in labelled(metrics, "tef_task_run_seconds_bucket")


def test_mtail_knows_every_event_it_may_meet() -> None:
    """The names in its program are those of the catalogue."""
    text = (CONF / "tef-manager.mtail").read_text()
    starts = [event.name.replace("|", r"\|") for event in CATALOGUE]
    named = re.findall(r"^  / (?:[a-z]+|\[a-z\]\+) (.*?)\\\|", text, re.MULTILINE)
    expanded = [each for name in named for each in alternatives(name)]
    assert len(expanded) > 20
    assert [
        name for name in expanded if not any(s == name or s.startswith(name + r"\|") for s in starts)
    ] == []


def alternatives(pattern: str) -> list[str]:
    """Return the names that a pattern with one group of alternatives stands for."""
    found = re.fullmatch(r"(\w*)(?:\((?:\?:|\?P<\w+>)([\w|]+)\))?(\w*)", pattern)
    assert found, pattern
    return [f"{found[1]}{middle}{found[3]}" for middle in (found[2] or "").split("|")]


# --- logcheck ---


def as_nobody(path: Path) -> tuple[dict[str, Any], int | None]:
    """Return how to run a program that refuses to be run by root, and who runs it then."""
    if os.getuid():
        return {}, None
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}, nobody.pw_uid


@pytest.fixture(scope="module")
def logcheck(story: Story, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What logcheck reports of the log: lines by the heading they stand under."""
    folder = Path("/tmp") / fresh("logcheck")  # where nobody may go, unlike a folder of pytest's
    folder.mkdir()
    try:
        shutil.copytree(UNPACKED / "etc/logcheck", folder / "rules")
        shutil.copytree(CONF / "logcheck", folder / "rules", dirs_exist_ok=True)
        shutil.copy(story.file, folder / "tef.log")
        (folder / "state").mkdir()
        (folder / "conf").write_text(
            f'INTRO=0\nFQDN=0\nLOCKDIR="{folder}/lock"\nLOCKFILE="$LOCKDIR/logcheck"\nTMP="{folder}"\n'
        )
        owner, number = as_nobody(folder)
        for path in [folder, *folder.rglob("*")]:
            if number is not None:
                os.chown(path, number, -1)
        command = [
            *("bash", program("logcheck", "logcheck"), "-o", "-s", "-c", f"{folder}/conf"),
            *("-r", f"{folder}/rules", "-l", f"{folder}/tef.log", "-S", f"{folder}/state"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, **owner)
        assert (done.returncode, done.stderr) == (0, ""), done
        return sections(done.stdout.splitlines())
    finally:
        shutil.rmtree(folder)


def sections(lines: Sequence[str]) -> dict[str, list[str]]:
    """Return lines by the underlined heading before them."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following.startswith("=-"):
            current = found[line] = []
        elif line and not line.startswith("=-"):
            current.append(line)
    return found


def test_logcheck_tells_errors_first(story: Story, logcheck: dict[str, list[str]]) -> None:
    """Under a heading of their own."""
    expected = [text for level, text in story.lines if level in ("error", "critical")]
    assert expected
    told = logcheck["Security Events for tef-manager"]
    assert sorted(line.split(" ", 2)[2] for line in told) == sorted(expected)


def test_logcheck_tells_warnings_and_nothing_else(story: Story, logcheck: dict[str, list[str]]) -> None:
    """What the manager settles alone, and all information, is left out."""
    expected = [text for level, text in story.lines if level == "warn" and not text.startswith(SETTLED)]
    assert expected
    told = logcheck["System Events"]
    assert sorted(line.split(" ", 2)[2] for line in told) == sorted(expected)
    assert len(logcheck) == 2


# --- check_logfiles ---


class CheckLogfiles:
    """The plugin, with our configuration, on a log of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "tef-manager.log"
        self.log.touch()
        os.utime(self.log, (1e9, 1e9))  # it sees that a log was written to by the second
        text = (CONF / "tef-manager.check_logfiles").read_text()
        text = text.replace("/var/log/tef-manager", str(folder))
        self._configuration = folder / "configuration"
        self._configuration.write_text(text.replace("/var/tmp/check_logfiles", str(folder)))

    def __call__(self) -> tuple[int, str]:
        """Run it once; return its status and what it says."""
        path = program("check_logfiles", "monitoring-plugins-check-logfiles")
        command = [path, "--config", str(self._configuration)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return done.returncode, done.stdout

    def append(self, *lines: str) -> None:
        """Let lines be logged."""
        with self.log.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)


@pytest.fixture
def check(tmp_path: Path) -> CheckLogfiles:
    """One that has seen the log when it was empty."""
    check = CheckLogfiles(tmp_path)
    assert check()[0] == 0
    return check


def test_check_logfiles_on_the_log(story: Story, check: CheckLogfiles) -> None:
    """It counts errors as critical, and as warnings what somebody should look at; and each line once."""
    check.append(*story.file.read_text().splitlines())
    errors = sum(level in ("error", "critical") for level, _ in story.lines)
    warnings = sum(level == "warn" and not text.startswith(SETTLED) for level, text in story.lines)
    status, said = check()
    assert status == 2
    assert f"({errors} errors, {warnings} warnings)" in said
    assert check()[0] == 0


def one(story: Story, start: str) -> str:
    """Return a line of the log, as it is, whose event begins with a text."""
    lines = story.file.read_text().splitlines()
    return next(line for line in lines if re.match(rf"\S+ [a-z]+ {re.escape(start)}", line))


@pytest.mark.parametrize(
    ("start", "status"),
    [("TASK_ACCEPTED", 0), ("[", 0), ("TASK_DUPLICATE", 0), ("DISPATCH_FAILED", 1), ("TASK_DEAD", 2)],
)
def test_check_logfiles_on_a_line(story: Story, check: CheckLogfiles, start: str, status: int) -> None:
    """Information and what is settled is fine, a warning a warning, an error critical."""
    check.append(one(story, start))
    assert check()[0] == status


@pytest.mark.parametrize("start", [*SETTLED, "WAITING_FOR|another manager is active"])
def test_check_logfiles_on_what_is_settled(check: CheckLogfiles, start: str) -> None:
    """Of what nobody has to look at it is silent, as logcheck is."""
    text = start if start.startswith("WAITING_FOR") else f"{start}a|b"
    check.append(f"2026-11-27T00:19:04.118+00:00 warn {text}")
    assert check()[0] == 0


def test_check_logfiles_reads_what_was_rotated_away(story: Story, check: CheckLogfiles) -> None:
    """A line that came just before the file was renamed is seen, and once."""
    check.append(one(story, "TASK_DEAD"))
    check.log.rename(f"{check.log}.1")
    check.append(one(story, "TASK_ACCEPTED"))
    assert check()[0] == 2
    assert check()[0] == 0
