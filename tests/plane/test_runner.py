"""The queue of a version with a thread of its own."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from gateway.fleet import ArmCounts
from gateway.rpc.codec import Parameters
from gateway.worker.execute import Execution, Timing
from gateway.worker.runner import MAX_WAITING, Runner
from gateway.worker.served import Target
from registry.deployment import Batching


class Waiting:
    """What a runner looks at of a request."""

    def __init__(self, name: str, priority: int = 0, group: object = None) -> None:
        self.name = name
        self.binding = SimpleNamespace(group=group, rows=1)
        self.request = SimpleNamespace(parameters=Parameters(priority=priority))


@pytest.fixture
def held():
    """(runner, ran, go): the first batch is held until ``go`` is set; ``ran`` lists the names of every batch."""
    ran, begun, go = [], threading.Event(), threading.Event()

    def run(_: object, batch: list) -> None:
        ran.append([item.name for item in batch])
        begun.set()
        go.wait(10)

    served = SimpleNamespace(model="m", number=1, max_rows=3, batching=Batching())
    runner = Runner(served, run)
    runner.offer([Waiting("first")])
    assert begun.wait(10)
    yield runner, ran, go
    go.set()
    runner.stop()


def test_the_urgent_go_first_and_the_others_keep_their_order(held):
    runner, ran, go = held
    runner.offer([Waiting("a"), Waiting("b"), Waiting("second", 2)])
    runner.offer([Waiting("urgent", 1), Waiting("c"), Waiting("also second", 2)])
    go.set()
    runner.stop()
    assert ran == [["first"], ["urgent"], ["second"], ["also second"], ["a"], ["b"], ["c"]]


def test_one_group_shares_batches_of_at_most_so_many_rows(held):
    runner, ran, go = held
    runner.offer([Waiting(str(i), group="g" if i % 2 else "h") for i in range(8)])
    go.set()
    runner.stop()
    assert ran == [["first"], ["0", "2", "4"], ["1", "3", "5"], ["6"], ["7"]]


def test_what_finds_no_room_is_handed_back(held):
    runner, _, _ = held
    refused = runner.offer([Waiting(str(i)) for i in range(MAX_WAITING + 2)])
    assert [item.name for item in refused] == [str(MAX_WAITING), str(MAX_WAITING + 1)]
    assert str(MAX_WAITING) in str(runner.overloaded())


def test_each_request_of_a_batch_counts_its_own_wait():
    """The queue is in order of priority, so the first and the last of a batch may have come together, and others before."""
    counts = ArmCounts("m", 1, "default")
    target = Target(SimpleNamespace(), "default", counts)
    items = [SimpleNamespace(target=target, received_ns=received_ns) for received_ns in (200, 100, 200)]
    timing = Timing(1_000)
    Execution._count(None, items, [1, 1, 1], timing, now_ms=1)
    assert counts.queue_ns == 800 + 900 + 800
    assert counts.requests == {"OK": 3}
