"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from merino.resilience.fair_queue import FairQueue


def serve(queue: FairQueue) -> str:
    name, lane, _ = next(iter(queue.heads()))
    return queue.serve(name, lane)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=100))
def test_first_come_first_served_within_a_group(events) -> None:
    """Nobody overtakes a call of the same group, whatever its lane, and nobody is lost."""
    queue: FairQueue = FairQueue()
    pushed, served = Counter(), []
    for name, is_push in events:
        if is_push or not len(queue):
            queue.push(name, pushed[name] % 2, (name, pushed[name]))
            pushed[name] += 1
        else:
            served.append(serve(queue))
    while len(queue):
        served.append(serve(queue))
    for name in "abc":
        assert list(range(pushed[name])) == [number for group, number in served if group == name]


def test_weights() -> None:
    """A group of weight 3 gets three turns for one of weight 1."""
    queue: FairQueue = FairQueue()
    for number in range(40):
        queue.push("heavy", 0, f"heavy{number}", weight=3.0)
        queue.push("light", 0, f"light{number}", weight=1.0)
    first = Counter(serve(queue)[:5] for _ in range(20))
    assert {"heavy": 15, "light": 5} == first


def test_one_at_a_time_gets_no_more_than_its_share() -> None:
    """A group that comes back for each turn does not starve one that queues."""
    queue: FairQueue = FairQueue()
    for number in range(20):
        queue.push("queues", 0, f"queues{number}")
    turns = Counter()
    queue.push("returns", 0, "returns")
    for _ in range(20):
        item = serve(queue)
        turns[item[:6]] += 1
        if item == "returns":
            queue.push("returns", 0, "returns")
    assert abs(turns["queues"] - turns["return"]) <= 1


def test_giving_up() -> None:
    """Who leaves the queue is not served, and leaves no trace."""
    queue: FairQueue = FairQueue()
    queue.push("a", 0, 1)
    queue.push("a", 0, 2)
    assert queue.remove("a", 0, 1)
    assert not queue.remove("a", 0, 1)
    assert (1, 2) == (len(queue), serve(queue))
    assert [] == list(queue.heads())
    assert 0 == len(queue)


def test_lanes() -> None:
    """Each lane shows its first, so that one who cannot go on holds up those of its lane alone."""
    queue: FairQueue = FairQueue()
    for lane, item in ((0, 1), (0, 2), (1, 3), (1, 4)):
        queue.push("a", lane, item)
    assert [("a", 0, 1), ("a", 1, 3)] == list(queue.heads())
    assert 3 == queue.serve("a", 1)
    assert [1, 4] == [item for _, _, item in queue.heads()]
