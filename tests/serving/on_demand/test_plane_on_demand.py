"""Requests that wait for the version that they name: parked, asked for once, answered or let go. On both lanes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from plane_models import answer, ask, batch_mean, scale, slow

from gateway.errors import AskRefused, NotReady
from gateway.protocol.services import INFER_METHOD

ONE = np.ones((1, 4), np.float32)


class Control:
    """Takes questions for versions, and raises ``error`` if there is one, when its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def ask(self, model: str, version: str, timeout_s: float) -> None:
        self.asked.append((model, version))
        self.gate.wait(10)
        if self.error is not None:
            raise self.error


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def lazy(open_gate, lane_kind, control):
    """Model m with version 1 as its default, on a plane that asks ``control``."""
    gate = open_gate(lane_kind, ask=control.ask)
    gate.load("m", 1, scale(1))
    gate.route("m", 1)
    yield gate
    control.gate.set()


def code(error) -> str:
    return error.value.code().name


def parked(gate) -> int:
    return gate.plane.telemetry().parked


def begin(gate, version="2", model="m", **options):
    """A request under way."""
    return gate.channel.unary_unary(INFER_METHOD).future(ask(model, ONE, version=version).SerializeToString(), **options)


@pytest.mark.parametrize("model", [scale(2), slow(5000)], ids=["inline", "own-thread"])
def test_requests_are_answered_once_the_version_is_there_and_control_is_asked_once(lazy, control, wait_for, model):
    control.gate.clear()
    calls = [begin(lazy) for _ in range(5)]
    wait_for(lambda: parked(lazy) == 5)
    assert answer(lazy.infer(ask("m", ONE))).tolist() == [[1, 1, 1, 1]]
    lazy.load("m", 2, model)
    lazy.publish()
    assert all(call.result(20) for call in calls)
    assert parked(lazy) == 0
    assert control.asked == [("m", "2")]
    wait_for(lambda: lazy.plane.counters.arm("m", 2, "pinned").requests == {"OK": 5})


def test_control_is_asked_again_while_requests_wait(lazy, control, wait_for):
    call = begin(lazy)
    wait_for(lambda: len(control.asked) >= 3)
    assert not call.done()
    call.cancel()
    wait_for(lambda: parked(lazy) == 0)


@pytest.mark.parametrize(
    ("said", "expected", "text"),
    [
        (AskRefused("model 'm' has no version '2'", code="NOT_FOUND", reason="VERSION_UNKNOWN"), "NOT_FOUND", "no version"),
        (AskRefused("cannot be loaded", code="FAILED_PRECONDITION", reason="FORBIDDEN"), "FAILED_PRECONDITION", "cannot be"),
        (NotReady("control is unreachable: try again"), "UNAVAILABLE", "unreachable"),
    ],
)  # fmt: skip
def test_what_control_refuses_all_who_wait_are_told(lazy, control, wait_for, said, expected, text):
    control.error = said
    control.gate.clear()
    calls = [begin(lazy) for _ in range(3)]
    wait_for(lambda: parked(lazy) == 3)
    control.gate.set()
    for call in calls:
        with pytest.raises(grpc.RpcError) as error:
            call.result(10)
        assert (code(error), text in error.value.details()) == (expected, True)
    wait_for(lambda: lazy.plane.counters.not_routed == {expected: 3})


def test_what_was_just_refused_is_refused_without_asking_again(lazy, control):
    control.error = AskRefused("no", code="NOT_FOUND", reason="VERSION_UNKNOWN")
    with ThreadPoolExecutor(4) as pool:
        calls = list(pool.map(lambda _: begin(lazy).exception(10), range(40)))
    assert {call.code().name for call in calls} == {"NOT_FOUND"}
    assert len(control.asked) < 10


def test_too_many_are_refused_with_a_time_to_come_back(lazy, control, wait_for, monkeypatch):
    monkeypatch.setattr("gateway.serving.on_demand.parking.MAX_PARKED", 2)
    control.gate.clear()
    calls = [begin(lazy) for _ in range(2)]
    wait_for(lambda: parked(lazy) == 2)
    with pytest.raises(grpc.RpcError) as error:
        lazy.infer(ask("m", ONE, version="3"))
    assert code(error) == "RESOURCE_EXHAUSTED"
    assert ("grpc-retry-pushback-ms", "1000") in [tuple(pair) for pair in error.value.trailing_metadata()]
    for call in calls:
        call.cancel()


def test_who_cancels_or_runs_out_of_time_leaves(lazy, control, wait_for):
    control.gate.clear()
    late, cancelled = begin(lazy, timeout=0.6), begin(lazy)
    wait_for(lambda: parked(lazy) == 2)
    cancelled.cancel()
    wait_for(lambda: parked(lazy) == 1)
    assert late.exception(10).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: parked(lazy) == 0)


def test_a_version_that_went_again_before_it_could_be_leased_is_asked_for_again(lazy, control, wait_for):
    served = lazy.load("m", 2, scale(2))
    served.retire()  # as in the instant between the table and the lease
    lazy.publish()
    call = begin(lazy)
    wait_for(lambda: lazy.plane.counters.not_routed or parked(lazy) or call.done())
    del lazy.loaded["m"][2]
    lazy.publish()
    second = begin(lazy)
    wait_for(lambda: parked(lazy) >= 1)
    lazy.load("m", 2, scale(2))
    lazy.publish()
    assert second.result(20)
    call.exception(20)


def test_a_wrong_request_for_a_version_that_is_held_is_not_parked(lazy, control):
    lazy.load("m", 2, batch_mean())
    lazy.publish()
    with pytest.raises(grpc.RpcError) as error:
        lazy.infer(ask("m", np.ones((1, 5), np.float32), version="2"))
    assert code(error) == "INVALID_ARGUMENT"
    assert control.asked == []


def test_a_stop_does_not_wait_for_a_load(lazy, control, wait_for):
    """The fixture stops the server with 5 s of grace, and breaks the test when anything is left open then."""
    control.gate.clear()
    call = begin(lazy, timeout=60)
    wait_for(lambda: parked(lazy) == 1)
    assert not call.done()
