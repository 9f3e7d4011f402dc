"""Messages of a stream through the data plane: batched, routed and freed as unary requests are, answered in their order."""

from __future__ import annotations

import queue

import grpc
import numpy as np
import pytest
from plane_models import answer, ask, counted, scale, slow

from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import STREAM_METHOD

ONE = np.ones((1, 4), np.float32)


@pytest.fixture
def stream(gate):
    """``stream(requests)``: the call; it stays open until the test ends."""
    outgoing: list[queue.SimpleQueue] = []

    def start(requests, **options):
        outgoing.append(queue.SimpleQueue())
        for request in requests:
            outgoing[-1].put(request if isinstance(request, bytes) else request.SerializeToString())
        method = gate.channel.stream_stream(STREAM_METHOD, response_deserializer=pb.ModelStreamInferResponse.FromString)
        return method(iter(outgoing[-1].get, None), timeout=60, **options)

    yield start
    for waiting in outgoing:
        waiting.put(None)


def test_messages_that_come_together_are_run_together_and_answered_in_order(gate, stream):
    served = gate.load("slow", 1, slow(20_000))
    served.pace.is_inline = False  # messages gather while it runs
    gate.route("slow", 1)
    answers = stream([ask("slow", ONE * number) for number in range(100)])
    for number in range(100):
        assert answer(next(answers).infer_response).tolist() == [[number] * 4]
    counts = gate.plane.counters.arm("slow", 1, "default")
    assert sum(counts.executions.values()) < 100, "fewer runs than messages"


def test_a_fast_models_answer_waits_for_the_slow_ones_before_it(gate, stream):
    gate.load("fast", 1, scale(2))
    gate.load("slow", 1, slow())
    for model in ("fast", "slow"):
        gate.route(model, 1)
    answers = stream([ask(("slow", "fast")[number % 2], ONE * number) for number in range(40)])
    models = [next(answers).infer_response.model_name for _ in range(40)]
    assert models == ["slow", "fast"] * 20


def test_a_wrong_message_is_answered_with_its_error_and_the_stream_goes_on(gate, stream):
    gate.load("m", 1, scale(2))
    gate.route("m", 1)
    answers = stream([b"\xff\xff not a request", ask("nobody", ONE), ask("m", ONE)])
    malformed, unknown, fine = (next(answers) for _ in range(3))
    assert malformed.infer_response.parameters["error_code"].string_param == "INVALID_ARGUMENT"
    assert "nobody" in unknown.error_message
    assert unknown.infer_response.parameters["error_code"].string_param == "NOT_FOUND"
    assert answer(fine.infer_response).tolist() == [[2, 2, 2, 2]]


def test_the_streams_unit_decides_for_all_of_its_messages(gate, stream):
    from registry.deployment import Segment

    for number in (1, 2):
        gate.load("m", number, scale(number))
    gate.route("m", 1, Segment(0, 0.5, 2))
    for unit in ("a", "b", "c", "d", "e", "f"):
        answers = stream([ask("m", ONE)] * 20, metadata=(("x-unit-id", unit),))
        assert len({next(answers).infer_response.model_version for _ in range(20)}) == 1


def test_a_cancelled_stream_frees_what_runs_and_what_waits(gate, stream, wait_for):
    served = gate.load("loop", 1, counted())
    served.pace.is_inline = False  # the lane's own thread cannot see a cancellation while it runs a model
    gate.route("loop", 1)
    request = ask("loop", ONE)
    request.inputs.add(name="rounds", datatype="INT64", shape=[])
    request.raw_input_contents.append(np.int64(1 << 60).tobytes())  # endless
    answers = stream([request] * 100)
    wait_for(lambda: served.in_flight == 100)
    answers.cancel()
    wait_for(lambda: served.in_flight == 0)
    assert answers.code() is grpc.StatusCode.CANCELLED
