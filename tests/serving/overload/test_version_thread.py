"""The queue of a version with a thread of its own: which request runs first, which is refused, which leaves; its leases."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from versions_of import loaded

from gateway.contract.counts import ArmCounts
from gateway.errors import CallerGone, DeadlinePassed, Overloaded
from gateway.serving.account import _count
from gateway.serving.arm import Arm, RunPlans
from gateway.serving.lane.call import Call
from gateway.serving.lease import Lease
from gateway.serving.oip.decode import Parameters
from gateway.serving.overload.admission import Admission
from gateway.serving.overload.queue import RequestQueue
from gateway.serving.overload.version_thread import VersionThread
from gateway.serving.stages import Answers, Batch, Outputs
from gateway.versions.run_times import RunTimes
from registry.deployment import Batching

NO_DEADLINE = float("inf")


class Waiting:
    """As much of a routed request as a queue needs."""

    def __init__(
        self, name: str, priority: int = 0, group: object = None, expires_at: float = NO_DEADLINE, rows: int = 1
    ) -> None:
        self.name, self.arm = name, None
        self.plan = SimpleNamespace(group=group, rows=rows)
        self.call = Call(None, expires_at, ())
        self.received = SimpleNamespace(
            name=name,
            parameters=Parameters(priority=priority),
            call=self.call,
            expires_at=expires_at,
            received_ns=time.perf_counter_ns(),
        )

    def __repr__(self) -> str:
        return self.name


class Bench:
    """A thread whose first run lasts until `go`; lists what ran, what was refused with what, what is watched."""

    def __init__(
        self, *, max_rows: int = 3, is_batched: bool = True, run_s: float = 0.0, first: str = "f", **batching: object
    ) -> None:
        self.ran: list[list[str]] = []
        self.refused: list[tuple[str, type]] = []
        self.errors: list[Exception] = []
        self.watched: list[Call] = []
        self.halts: list[object] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.version = loaded(batching=Batching(max_rows=max_rows, **batching), is_batchable=is_batched)
        if run_s:
            self.version.pace.run_times.learn(max_rows, run_s)
        self.thread = VersionThread(self.version, self, SimpleNamespace(refuse=self._refuse))
        self.first = [Waiting(name, group="g") for name in first]
        self.offer(*self.first)
        assert self.begun.wait(10)

    @property
    def queue(self) -> RequestQueue:
        return self.thread._queue

    def offer(self, *requests: Waiting) -> None:
        lease = Lease.take(self.version, len(requests))
        assert lease is not None
        self.thread.offer(list(requests), lease, lambda calls, gone: self.watched.extend(calls))

    def process(self, batch: Batch) -> None:
        with batch.lease:
            assert batch.lease.requests == len(batch.requests)
            self.ran.append([request.name for request in batch.requests])
            self.halts.append(batch.halt)
            self.begun.set()
            assert self.go.wait(10)

    def _refuse(self, request: Waiting, arm: object, error: Exception) -> None:
        self.refused.append((request.name, type(error)))
        self.errors.append(error)

    def finish(self) -> list[list[str]]:
        self.go.set()
        self.thread.stop()
        assert self.version.in_flight == 0
        return self.ran[1:]


@pytest.fixture
def start():
    benches: list[Bench] = []

    def make(**options: object) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield make
    for one in benches:
        one.finish()


def test_the_urgent_go_first_and_the_others_keep_their_order(start):
    bench = start()
    bench.offer(Waiting("a"), Waiting("b"), Waiting("second", 2))
    bench.offer(Waiting("urgent", 1), Waiting("c"), Waiting("also second", 2))
    assert bench.finish() == [["urgent"], ["second"], ["also second"], ["a"], ["b"], ["c"]]


def test_one_group_shares_batches_of_at_most_so_many_rows(start):
    bench = start()
    bench.offer(*(Waiting(str(i), group="g" if i % 2 else "h") for i in range(8)))
    assert bench.finish() == [["0", "2", "4"], ["1", "3", "5"], ["6"], ["7"]]


def test_a_batch_has_a_preferred_size_where_that_is_filled(start):
    bench = start(max_rows=8, preferred_rows=(2, 4))
    bench.offer(*(Waiting(str(i), group="g") for i in range(7)))
    assert [len(batch) for batch in bench.finish()] == [4, 2, 1]


def test_rows_count_towards_a_batch_and_not_requests(start):
    bench = start(max_rows=4, queue_delay_us=1_000_000)
    bench.offer(*(Waiting(str(i), group="g", rows=2) for i in range(4)))
    assert bench.finish() == [["0", "1"], ["2", "3"]]


def test_what_finds_no_room_is_refused_and_never_watched(start):
    bench = start(max_waiting=5)
    bench.offer(*(Waiting(str(i)) for i in range(7)))
    assert bench.refused == [("5", Overloaded), ("6", Overloaded)]
    assert "m v1: 5 requests are waiting, the most allowed" in str(bench.errors[0])
    assert len(bench.watched) == 1 + 5
    assert bench.thread.queued == 5


def test_the_more_important_takes_the_place_of_the_least_important(start):
    bench = start(max_waiting=2)
    bench.offer(Waiting("old"), Waiting("new"))
    bench.offer(Waiting("urgent", 1), Waiting("late"))
    assert bench.refused == [("new", Overloaded), ("late", Overloaded)]
    assert bench.finish() == [["urgent"], ["old"]]


def test_who_cannot_be_answered_before_the_deadline_is_refused_at_once(start):
    bench = start(is_batched=False, max_rows=1, run_s=10.0)
    now = time.monotonic()
    bench.offer(Waiting("hopeless", expires_at=now + 5), Waiting("fine", expires_at=now + 60))
    assert bench.refused == [("hopeless", Overloaded)]
    assert "deadline" in str(bench.errors[0])
    assert bench.errors[0].retry_after_s > 1


def test_a_run_that_its_deadline_would_stop_is_not_begun_while_another_could_use_the_time(start):
    bench = start(is_batched=False, max_rows=1, run_s=0.5)
    soon = time.monotonic() + 0.3
    lease = Lease.take(bench.version, 3)
    assert lease is not None
    bench.thread._lease.join(lease)
    for name, expires_at in (("hopeless", soon), ("fine", NO_DEADLINE), ("also hopeless, but alone", soon)):
        bench.queue.add(Waiting(name, expires_at=expires_at))
    assert bench.finish() == [["fine"], ["also hopeless, but alone"]]
    assert bench.refused == [("hopeless", DeadlinePassed)]


def test_with_nobody_ahead_a_short_deadline_is_tried():
    times = RunTimes(1)
    times.learn(1, 10.0)
    admission = Admission("m", Batching(), times, RequestQueue(times, is_batched=False))
    assert admission.refusal(Waiting("short", expires_at=1005.0), 1000.0) is None


def test_the_urgent_is_not_refused_for_the_queue_behind_it(start):
    bench = start(is_batched=False, max_rows=1, run_s=1.0)
    bench.offer(*(Waiting(str(i)) for i in range(50)))
    soon = time.monotonic() + 10
    bench.offer(Waiting("urgent", 1, expires_at=soon), Waiting("plain", expires_at=soon))
    assert bench.refused == [("plain", Overloaded)]


def test_who_is_gone_leaves_the_queue_and_is_not_run(start):
    bench = start()
    gone, stays = Waiting("gone"), Waiting("stays")
    bench.offer(gone, stays)
    gone.call.is_gone = True
    bench.thread.gone(gone.call)
    assert bench.refused == [("gone", CallerGone)]
    assert bench.thread.queued == 1
    assert bench.finish() == [["stays"]]


def test_a_run_is_stopped_only_when_every_caller_in_it_is_gone(start):
    bench, stopped = start(first="ab"), []
    bench.halts[0].bind(lambda: stopped.append(True))
    for item, is_stopped in zip(bench.first, (False, True), strict=True):
        item.call.is_gone = True
        bench.thread.gone(item.call)
        assert bool(stopped) is is_stopped


def test_the_expired_leave_as_soon_as_anybody_comes(start):
    bench = start()
    bench.offer(Waiting("short", expires_at=time.monotonic() + 0.05))
    while time.monotonic() <= bench.queue.first.received.expires_at:
        threading.Event().wait(0.01)
    bench.offer(Waiting("next"))
    assert bench.refused == [("short", DeadlinePassed)]
    assert bench.finish() == [["next"]]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 3), st.integers(1, 5), st.sampled_from([None, "g", "h"])),
            st.tuples(st.just("take"), st.integers(1, 8)),
            st.tuples(st.just("gone"), st.integers(0, 30)),
            st.tuples(st.just("last")),
        ),
        max_size=60,
    )
)
def test_the_queue_is_what_a_sorted_list_would_be(steps):
    queue, model = RequestQueue(RunTimes(8), is_batched=True), []
    for number, step in enumerate(steps):
        if step[0] == "add":
            item = Waiting(str(number), step[1], step[3], rows=step[2])
            queue.add(item)
            model.append(item)
            model.sort(key=lambda one: one.received.parameters.priority or 99)
        elif step[0] == "take" and model:
            batch = queue.take(step[1])
            assert batch[0] is model[0]
            assert len({one.plan.group or one for one in batch}) == 1
            assert len(batch) == 1 or sum(one.plan.rows for one in batch) <= step[1]
            model = [one for one in model if one not in batch]
        elif step[0] == "gone" and model:
            leaver = model.pop(step[1] % len(model))
            assert queue.remove_call(leaver.call) == [leaver]
        elif step[0] == "last" and model:
            assert queue.pop_last() is model.pop()
        assert len(queue) == len(model)
        assert queue.rows == sum(one.plan.rows for one in model)
        if model:
            assert queue.first is model[0]
            assert queue.earliest <= min(one.received.expires_at for one in model)


def test_each_request_of_a_batch_counts_its_own_wait():
    """The queue is in order of priority, so the first and the last of a batch may have come together, and others before."""
    version, counts = loaded(), ArmCounts("m", 1, "default")
    arm = Arm(version, "default", counts, RunPlans(version))
    requests = [
        SimpleNamespace(arm=arm, plan=SimpleNamespace(rows=1), received=SimpleNamespace(received_ns=received_ns))
        for received_ns in (200, 100, 200)
    ]
    outputs = Outputs(requests, [], 1_000, 1_000, 1_000)
    assert not outputs.is_uniform
    _count(Answers(outputs, [], 1, "", (0, 1, 2)))
    assert counts.queue_ns == 800 + 900 + 800
    assert counts.requests == {"OK": 3}
