"""The fewest acknowledgements for any tags in any order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tefmanager.amqp.acks import OVERHEAD, AckTracker


def tracker(deliveries: int) -> AckTracker:
    """Return a tracker with deliveries of one byte."""
    result = AckTracker()
    for tag in range(1, deliveries + 1):
        result.add(tag, 1)
    return result


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([[1]], [[(1, False)]]),
        ([[1, 2, 3]], [[(3, True)]]),
        ([[3, 1, 2]], [[(3, True)]]),
        ([[1, 2, 4]], [[(2, True), (4, False)]]),
        ([[2, 3], [1]], [[(2, False), (3, False)], [(1, False)]]),
        ([[2], [1, 3]], [[(2, False)], [(3, True)]]),
        ([[2, 3], [1, 4, 5]], [[(2, False), (3, False)], [(5, True)]]),
        ([[1], [1]], [[(1, False)], []]),
        ([[7, 0, -1]], [[]]),
        ([[1, 1]], [[(1, False)]]),
        ([[]], [[]]),
    ],
)
def test_collapse(calls: list[list[int]], expected: list[list[tuple[int, bool]]]) -> None:
    """Tags up to which all is acknowledged become one frame; the others one each; strangers none."""
    acks = tracker(5)
    assert [acks.ack(tags) for tags in calls] == expected


@given(st.permutations(range(1, 31)), st.lists(st.integers(0, 30), max_size=6))
def test_a_broker_agrees(order: list[int], cuts: list[int]) -> None:
    """A broker that applies the frames has settled just what was asked for, and never an unknown tag."""
    acks, broker = tracker(30), set(range(1, 31))
    edges = [0, *sorted(cuts), 30]
    for start, end in pairwise(edges):
        before = set(broker)
        for tag, multiple in acks.ack(order[start:end]):
            assert tag in broker
            broker -= {known for known in broker if known <= tag} if multiple else {tag}
        assert before - broker == set(order[start:end])
        assert len(acks) == len(broker)
        assert acks.unacked == len(broker) * (1 + OVERHEAD)
