"""The line of a version with a thread of its own: who goes first, who is refused, who leaves."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.counts import ArmCounts
from gateway.errors import CallerGone, DeadlinePassed, Overloaded
from gateway.serving.execute import Execution, Timing, are_alike
from gateway.serving.lane.call import Call
from gateway.serving.oip.codec import Parameters
from gateway.serving.overload.admission import Admission
from gateway.serving.overload.queue import WaitingLine
from gateway.serving.overload.run_times import RunTimes
from gateway.serving.overload.runner import Runner
from gateway.serving.served import Target
from registry.deployment import Batching

FOREVER = float("inf")


class Waiting:
    """What a runner looks at of a request."""

    def __init__(self, name: str, priority: int = 0, group: object = None, expires_at: float = FOREVER, rows: int = 1) -> None:
        self.name = name
        self.binding = SimpleNamespace(group=group, rows=rows)
        self.parameters = Parameters(priority=priority)
        self.call = Call(None, expires_at, ())
        self.expires_at = expires_at
        self.received_ns = time.perf_counter_ns()

    def __repr__(self) -> str:
        return self.name


class Held:
    """A runner whose first run lasts until `go`; lists what ran, what was refused with what, what is watched."""

    def __init__(
        self, *, max_rows: int = 3, is_batched: bool = True, run_s: float = 0.0, first: str = "f", **batching: object
    ) -> None:
        self.ran: list[list[str]] = []
        self.refused: list[tuple[str, type]] = []
        self.watched: list[Call] = []
        self.halts: list[object] = []
        self.begun, self.go = threading.Event(), threading.Event()
        times = RunTimes(max_rows)
        if run_s:
            times.learn(max_rows, run_s)
        served = SimpleNamespace(
            model="m",
            number=1,
            max_rows=max_rows,
            is_batched=is_batched,
            run_times=times,
            batching=Batching(max_rows=max_rows, **batching),
        )
        self.runner = Runner(served, self._run, self._refuse)
        self.first = [Waiting(name, group="g") for name in first]
        self.offer(*self.first)
        assert self.begun.wait(10)

    def offer(self, *items: Waiting) -> None:
        self.runner.offer(list(items), lambda calls, gone: self.watched.extend(calls))

    def _run(self, _: object, batch: list, halt: object) -> None:
        self.ran.append([item.name for item in batch])
        self.halts.append(halt)
        self.begun.set()
        assert self.go.wait(10)

    def _refuse(self, _: object, items: list, error: Exception) -> None:
        self.refused += [(item.name, type(error)) for item in items]
        self.errors = [*getattr(self, "errors", []), error]

    def finish(self) -> list[list[str]]:
        self.go.set()
        self.runner.stop()
        return self.ran[1:]


@pytest.fixture
def hold():
    held: list[Held] = []

    def make(**options: object) -> Held:
        held.append(Held(**options))
        return held[-1]

    yield make
    for one in held:
        one.finish()


def test_the_urgent_go_first_and_the_others_keep_their_order(hold):
    held = hold()
    held.offer(Waiting("a"), Waiting("b"), Waiting("second", 2))
    held.offer(Waiting("urgent", 1), Waiting("c"), Waiting("also second", 2))
    assert held.finish() == [["urgent"], ["second"], ["also second"], ["a"], ["b"], ["c"]]


def test_one_group_shares_batches_of_at_most_so_many_rows(hold):
    held = hold()
    held.offer(*(Waiting(str(i), group="g" if i % 2 else "h") for i in range(8)))
    assert held.finish() == [["0", "2", "4"], ["1", "3", "5"], ["6"], ["7"]]


def test_a_batch_has_a_preferred_size_where_that_is_filled(hold):
    held = hold(max_rows=8, preferred_rows=(2, 4))
    held.offer(*(Waiting(str(i), group="g") for i in range(7)))
    assert [len(batch) for batch in held.finish()] == [4, 2, 1]


def test_rows_count_towards_a_batch_and_not_requests(hold):
    held = hold(max_rows=4, queue_delay_us=1_000_000)
    held.offer(*(Waiting(str(i), group="g", rows=2) for i in range(4)))
    assert held.finish() == [["0", "1"], ["2", "3"]]


def test_what_finds_no_room_is_refused_and_never_watched(hold):
    held = hold(max_waiting=5)
    held.offer(*(Waiting(str(i)) for i in range(7)))
    assert held.refused == [("5", Overloaded), ("6", Overloaded)]
    assert "m v1: 5 requests are waiting, the most allowed" in str(held.errors[0])
    assert len(held.watched) == 1 + 5
    assert held.runner.waiting == 5


def test_the_more_important_takes_the_place_of_the_least_important(hold):
    held = hold(max_waiting=2)
    held.offer(Waiting("old"), Waiting("new"))
    held.offer(Waiting("urgent", 1), Waiting("late"))
    assert held.refused == [("new", Overloaded), ("late", Overloaded)]
    assert held.finish() == [["urgent"], ["old"]]


def test_who_cannot_be_answered_before_the_deadline_is_refused_at_once(hold):
    held = hold(is_batched=False, max_rows=1, run_s=10.0)
    now = time.time()
    held.offer(Waiting("hopeless", expires_at=now + 5), Waiting("fine", expires_at=now + 60))
    assert held.refused == [("hopeless", Overloaded)]
    assert "deadline" in str(held.errors[0])
    assert held.errors[0].retry_after_s > 1


def test_a_run_that_its_deadline_would_stop_is_not_begun_while_another_could_use_the_time(hold):
    held = hold(is_batched=False, max_rows=1, run_s=0.5)
    line, soon = held.runner._line, time.time() + 0.3
    for name, expires_at in (("hopeless", soon), ("fine", FOREVER), ("also hopeless, but alone", soon)):
        line.add(Waiting(name, expires_at=expires_at))
    assert held.finish() == [["fine"], ["also hopeless, but alone"]]
    assert held.refused == [("hopeless", DeadlinePassed)]


def test_with_nobody_ahead_a_short_deadline_is_tried():
    times = RunTimes(1)
    times.learn(1, 10.0)
    admission = Admission("m", Batching(), times, WaitingLine(times, is_batched=False))
    assert admission.refusal(Waiting("short", expires_at=1005.0), 1.0, 1000.0) is None


def test_the_urgent_is_not_refused_for_the_line_behind_it(hold):
    held = hold(is_batched=False, max_rows=1, run_s=1.0)
    held.offer(*(Waiting(str(i)) for i in range(50)))
    soon = time.time() + 10
    held.offer(Waiting("urgent", 1, expires_at=soon), Waiting("plain", expires_at=soon))
    assert held.refused == [("plain", Overloaded)]


def test_who_is_gone_leaves_the_line_and_is_not_run(hold):
    held = hold()
    gone, stays = Waiting("gone"), Waiting("stays")
    held.offer(gone, stays)
    gone.call.is_gone = True
    held.runner.gone(gone.call)
    assert held.refused == [("gone", CallerGone)]
    assert held.runner.waiting == 1
    assert held.finish() == [["stays"]]


def test_a_run_is_stopped_only_when_every_caller_in_it_is_gone(hold):
    held, stopped = hold(first="ab"), []
    held.halts[0].bind(lambda: stopped.append(True))
    for item, is_stopped in zip(held.first, (False, True), strict=True):
        item.call.is_gone = True
        held.runner.gone(item.call)
        assert bool(stopped) is is_stopped


def test_the_expired_leave_as_soon_as_anybody_comes(hold):
    held = hold()
    held.offer(Waiting("short", expires_at=time.time() + 0.05))
    while time.time() <= held.runner._line.first.expires_at:
        threading.Event().wait(0.01)
    held.offer(Waiting("next"))
    assert held.refused == [("short", DeadlinePassed)]
    assert held.finish() == [["next"]]


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
def test_the_line_is_what_a_sorted_list_would_be(steps):
    line, model = WaitingLine(RunTimes(8), is_batched=True), []
    for number, step in enumerate(steps):
        if step[0] == "add":
            item = Waiting(str(number), step[1], step[3], rows=step[2])
            line.add(item)
            model.append(item)
            model.sort(key=lambda one: one.parameters.priority or 99)
        elif step[0] == "take" and model:
            batch = line.take(step[1])
            assert batch[0] is model[0]
            assert len({one.binding.group or one for one in batch}) == 1
            assert len(batch) == 1 or sum(one.binding.rows for one in batch) <= step[1]
            model = [one for one in model if one not in batch]
        elif step[0] == "gone" and model:
            leaver = model.pop(step[1] % len(model))
            assert line.remove_call(leaver.call) == [leaver]
        elif step[0] == "last" and model:
            assert line.pop_last() is model.pop()
        assert len(line) == len(model)
        assert line.rows == sum(one.binding.rows for one in model)
        if model:
            assert line.first is model[0]
            assert line.earliest <= min(one.expires_at for one in model)


def test_each_request_of_a_batch_counts_its_own_wait():
    """The queue is in order of priority, so the first and the last of a batch may have come together, and others before."""
    counts = ArmCounts("m", 1, "default")
    target = Target(SimpleNamespace(), "default", counts)
    items = [SimpleNamespace(target=target, received_ns=received_ns) for received_ns in (200, 100, 200)]
    timing = Timing(1_000)
    assert not are_alike(items)
    Execution._count(None, items, [1, 1, 1], timing, now_ms=1, is_alike=False)
    assert counts.queue_ns == 800 + 900 + 800
    assert counts.requests == {"OK": 3}
