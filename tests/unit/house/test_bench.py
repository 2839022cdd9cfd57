"""The pure parts of the benchmark: its messages, its numbers, its file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.grid import bodies
from benchmarks.grid.spec import LoadSpec
from benchmarks.results import Measurement, Results, distribution, percentile
from benchmarks.simulated import Job, Simulated
from tefmanager.protocol.messages import TaskMessage, WorkerMessage, parse
from tests.integration.grid_client import compact


def measured(group: str, number: int, rate: float) -> Measurement:
    """Return a measurement."""
    return Measurement(group, {"who": "us"}, number, {"tasks/s": rate})


def test_tasks_are_what_the_manager_takes() -> None:
    """The number of a task is found in a message that the manager understands."""
    body = bodies.task(42, ("a", "b"), "suite")
    message = parse(body, 1 << 20)
    assert isinstance(message, TaskMessage)
    assert (message.guid, message.resources, message.suite) == ("b-00000042", ("a", "b"), "suite")
    assert bodies.number_of(body) == 42


def test_workers_say_what_ruby_workers_say() -> None:
    """A status is the same bytes as that of a worker in the field."""
    said = bodies.status("w", "q", "idle", "t")
    fields = {
        "type": "worker_status",
        "name": "w",
        "worker_type": "t",
        "exchange_name": "q",
        "status": "idle",
    }
    assert said == compact(fields)
    assert parse(said, 1 << 20) == WorkerMessage("w", "q", "idle", "t", None)


def test_tasks_use_all_resources_alike() -> None:
    """100 tasks that follow each other need each of 20 resources 15 times."""
    names = [f"r{number}" for number in range(20)]
    wanted = [name for number in range(7, 107) for name in bodies.names_for(number, 3, names)]
    assert {wanted.count(name) for name in names} == {15}


def test_specs_survive_json() -> None:
    """A simulated grid's process is told all of what it is to do."""
    spec = LoadSpec(5672, "p", workers=3, names=["a"], rate=2.5)
    assert LoadSpec.from_json(spec.to_json()) == spec


def test_distributions_go_from_least_to_most() -> None:
    """A distribution is kept as quantiles, of few samples too."""
    assert distribution([3.0, 1.0, 2.0])[::100] == [1.0, 2.0, 3.0]
    assert distribution([5.0]) == [5.0] * 201
    assert percentile(range(101), 99) == 99


def test_results_survive_their_file(tmp_path: Path) -> None:
    """What was written is read back, and a group measured anew takes the place of the old one."""
    path = tmp_path / "results.json"
    old = Results({"machine": "1 × ä"}, [measured("a", 1, 10.0), measured("b", 1, 20.0)])
    old.save(path)
    found = Results.load(path)
    assert found == old
    found.replace(Results({"machine": "2"}, [measured("b", 1, 30.0), measured("b", 2, 50.0)]))
    assert found.machine == {"machine": "2"}
    assert found.median("tasks/s", "a", who="us") == 10.0
    assert found.median("tasks/s", "b") == 40.0
    assert found.median("tasks/s", "b", who="them") is None


def test_simulated_tasks_take_their_time() -> None:
    """One worker does one task after the other, and the core's clock goes with the simulated one."""
    grid = Simulated(1, 60.0, {"r": 1})
    for number in (1, 2):
        grid.submit(Job(f"t{number}", 5.0, {"resources": ("r",)}))
    grid.run(20.0)
    assert grid.began == {"t1": 0.0, "t2": 5.0}
    assert grid.ended == {"t1": 5.0, "t2": 10.0}
