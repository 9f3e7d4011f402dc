"""Who answers: default, candidates, aliases, pins, swaps under load; and what a shadow may not do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import structlog
from onnx import TensorProto
from plane_models import answer, ask, batch_mean, identity, lookup, scale, slow

from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import INFER_METHOD
from gateway.quality.prediction_id import parse
from gateway.versions.snapshot import Snapshot
from registry.deployment import Batching, Segment, Shadow

ONE = np.ones((1, 4), np.float32)


def arm(response) -> str:
    return response.parameters["arm"].string_param


def two_versions(gate) -> None:
    gate.load("m", 1, scale(1))
    gate.load("m", 2, scale(2))


def test_the_default_answers_and_the_answer_says_so(gate):
    two_versions(gate)
    gate.route("m", 2)
    request = ask("m", ONE)
    request.id = "mine"
    response = gate.infer(request)
    assert (response.model_name, response.model_version, arm(response), response.id) == ("m", "2", "default", "mine")
    issued = parse(response.parameters["prediction_id"].string_param)
    assert issued is not None
    assert issued.epoch == 77
    assert answer(response).tolist() == [[2, 2, 2, 2]]


def test_callers_of_a_model_that_is_being_swapped_are_told_why_and_to_come_again(gate):
    gate.plane.publish(Snapshot(unavailable={"m": "v1 is freed"}))
    with pytest.raises(grpc.RpcError) as refusal:
        gate.infer(ask("m", ONE))
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal.value.details() == "model 'm' is not ready: v1 is freed, try again"


def test_a_pinned_version_and_an_alias_answer_whatever_the_route(gate):
    two_versions(gate)
    gate.route("m", 1, champion=2)
    for version, number in (("2", "2"), ("champion", "2"), ("1", "1")):
        response = gate.infer(ask("m", ONE, version=version))
        assert (response.model_version, arm(response)) == (number, "pinned")


@pytest.mark.parametrize(
    ("model", "version", "code", "text"),
    [
        ("other", "", "NOT_FOUND", "model 'other': not found"),
        ("m", "9", "NOT_FOUND", "no version or alias '9' loaded here, there is 1, 2, champion"),
        ("m", "nobody", "NOT_FOUND", "no version or alias 'nobody'"),
        ("cold", "", "UNAVAILABLE", "model 'cold' is not ready: v1 READY"),
    ],
)
def test_who_cannot_answer_is_named(gate, model, version, code, text):
    two_versions(gate)
    gate.route("m", 1, champion=2)
    gate.load("cold", 1, scale(1))
    gate.publish()
    with pytest.raises(grpc.RpcError) as error:
        gate.infer(ask(model, ONE, version=version))
    assert error.value.code().name == code
    assert text in error.value.details()


def test_a_unit_always_meets_the_same_arm_by_metadata_or_parameter(gate):
    two_versions(gate)
    gate.route("m", 1, Segment(0, 3000, 2))
    met: dict[str, set[str]] = {}
    for _ in range(3):
        for unit in range(60):
            request = ask("m", ONE)
            by_metadata = gate.infer(request, metadata=(("x-unit-id", f"u{unit}"),))
            request.parameters["unit_id"].string_param = f"u{unit}"
            met.setdefault(f"u{unit}", set()).update((by_metadata.model_version, gate.infer(request).model_version))
    assert all(len(versions) == 1 for versions in met.values())
    assert {version for versions in met.values() for version in versions} == {"1", "2"}


def test_facts_go_out_as_trailing_metadata_when_asked(gate):
    two_versions(gate)
    gate.route("m", 2)
    method = gate.channel.unary_unary(INFER_METHOD)
    _, call = method.with_call(ask("m", ONE).SerializeToString(), metadata=(("x-prediction-metadata", "1"),))
    trailers = dict(call.trailing_metadata())
    assert trailers["x-model-version"] == "2"
    assert trailers["x-arm"] == "default"
    assert parse(trailers["x-prediction-id"])
    _, call = method.with_call(ask("m", ONE).SerializeToString())
    assert "x-arm" not in dict(call.trailing_metadata())


def test_answers_never_cross_callers(gate, wait_for):
    """Each of many concurrent requests, of various rows, gets the answer for its own rows."""
    gate.load("m", 1, scale(2), batching=Batching(max_rows=16))
    gate.route("m", 1)
    method = gate.channel.unary_unary(INFER_METHOD, response_deserializer=None)
    random = np.random.default_rng(5)
    arrays = [random.normal(size=(int(rows), 4)).astype(np.float32) for rows in random.integers(1, 21, 400)]
    requests = []
    for index, array in enumerate(arrays):
        request = ask("m", array)
        request.id = f"request-{index}" if index % 3 else ""
        requests.append(request)
    futures = [method.future(request.SerializeToString(), timeout=30) for request in requests]
    for request, array, future in zip(requests, arrays, futures, strict=True):
        response = gate_response(future.result())
        assert response.id == request.id
        assert answer(response).tolist() == (array * 2).tolist()
    executed = gate.plane.counters.arm("m", 1, "default").executions
    wait_for(lambda: sum(size * runs for size, runs in executed.items()) == sum(len(array) for array in arrays))
    assert max(executed) > 1  # rows did share batches


def gate_response(data: bytes):
    return pb.ModelInferResponse.FromString(data)


def test_one_callers_bad_value_fails_that_caller_alone(gate):
    served = gate.load("t", 1, lookup())
    assert served.is_batched
    gate.route("t", 1)
    method = gate.channel.unary_unary(INFER_METHOD)
    indices = [99 if i % 5 == 0 else i % 10 for i in range(50)]
    futures = [
        method.future(ask("t", np.array([i], np.int64), datatype="INT64").SerializeToString(), timeout=20) for i in indices
    ]
    for index, future in zip(indices, futures, strict=True):
        if index == 99:
            assert future.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
            assert "t v1" in future.details()
        else:
            assert answer(gate_response(future.result())).tolist() == [[index * 4 + k for k in range(4)]]


def test_asking_for_an_impossible_form_fails_that_caller_alone(gate):
    """FP16 has no typed contents; who asks for them must not fail those that share the batch."""
    gate.load("h", 1, identity(TensorProto.FLOAT16, ["n", 2]))
    gate.route("h", 1)
    method = gate.channel.unary_unary(INFER_METHOD)
    requests = [ask("h", np.full((1, 2), i, np.float16), datatype="FP16") for i in range(60)]
    for request in requests[::7]:
        request.parameters["binary_data_output"].bool_param = False
    futures = [method.future(request.SerializeToString(), timeout=20) for request in requests]
    for index, future in enumerate(futures):
        if index % 7 == 0:
            assert future.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "output 'y': datatype FP16 has no typed contents" in future.details()
        else:
            assert answer(gate_response(future.result()), dtype=np.float16).tolist() == [[index, index]]


def test_swaps_under_load_lose_nothing_and_name_the_version_that_ran(gate, wait_for):
    two_versions(gate)
    gate.route("m", 1)
    stop, wrong, served = threading.Event(), [], []

    def call() -> None:
        while not stop.is_set():
            response = gate.infer(ask("m", ONE))
            if answer(response)[0, 0] != float(response.model_version):
                wrong.append(response)
            served.append(response.model_version)

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        for swap in range(60):
            seen = len(served)
            gate.route("m", 1 + swap % 2)
            wait_for(lambda seen=seen: len(served) > seen + 4)
        stop.set()
        for caller in callers:
            caller.result()
    assert not wrong
    assert {"1", "2"} <= set(served)


@pytest.mark.parametrize("version", ["²", "٧", "７", "7²", "+7", "V7", "vv7", "v", "v²"])
def test_a_version_of_other_digits_is_not_found_and_nothing_is_logged_as_an_error(gate, version):
    """Each such request used to be INTERNAL, with a traceback in the log."""
    gate.load("m", 7, scale(2))
    gate.route("m", 7)
    with structlog.testing.capture_logs() as logged, pytest.raises(grpc.RpcError) as error:
        gate.infer(ask("m", ONE, version=version))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert f"no version or alias {version!r}" in error.value.details()
    assert [entry for entry in logged if entry["log_level"] == "error"] == []


def test_leading_zeros_mean_the_same_version(gate):
    gate.load("m", 7, scale(2))
    gate.route("m", 7)
    for version in ("7", "007", "0000000007", "v7"):
        response = gate.infer(ask("m", ONE, version=version))
        assert (response.model_version, arm(response)) == ("7", "pinned")


def test_a_retired_version_is_routed_around_and_drains(gate, wait_for):
    """A reader that still has the old table is refused the lease and goes by the new one."""
    two_versions(gate)
    gate.route("m", 1)
    old = gate.loaded["m"][1]
    stop = threading.Event()

    def call() -> int:
        done = 0
        while not stop.is_set():
            assert gate.infer(ask("m", ONE)).model_version in "12"
            done += 1
        return done

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(call) for _ in range(3)]
        for _ in range(30):
            gate.route("m", 2)
            old.retire()
            wait_for(lambda: old.in_flight == 0)
            old.reinstate()
            gate.route("m", 1)
        stop.set()
        assert all(caller.result() > 0 for caller in callers)


def test_a_slow_version_runs_beside_the_lane_and_answers(gate):
    served = gate.load("s", 1, slow())
    assert not served.pace.is_inline
    gate.load("m", 1, scale(2))
    gate.route("m", 1)
    gate.route("s", 1)
    method = gate.channel.unary_unary(INFER_METHOD)
    slow_ones = [method.future(ask("s", ONE * i).SerializeToString(), timeout=30) for i in range(20)]
    assert answer(gate.infer(ask("m", ONE))).tolist() == [[2, 2, 2, 2]]
    assert [answer(gate_response(future.result()))[0, 0] for future in slow_ones] == list(range(20))


def test_a_request_that_expired_in_the_queue_is_not_run(gate, wait_for):
    gate.load("s", 1, slow(20_000))
    gate.route("s", 1)
    method = gate.channel.unary_unary(INFER_METHOD)
    first = method.future(ask("s", ONE).SerializeToString(), timeout=30)
    expiring = ask("s", ONE)
    expiring.parameters["timeout"].int64_param = 1
    error = method.future(expiring.SerializeToString(), timeout=30)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert first.result()
    counts = gate.plane.counters.arm("s", 1, "default")
    wait_for(lambda: counts.requests == {"DEADLINE_EXCEEDED": 1, "OK": 1})
    wait_for(lambda: sum(counts.executions.values()) >= 1)
    assert sum(counts.executions.values()) == 1


def test_a_shadow_is_compared_and_never_seen_by_callers(gate, wait_for):
    gate.load("m", 1, scale(1), is_class=False)
    gate.load("m", 2, scale(3), is_class=False)
    gate.route("m", 1, shadow=Shadow(2, 100))
    for _ in range(50):
        response = gate.infer(ask("m", ONE))
        assert (response.model_version, arm(response)) == ("1", "default")
    gate.infer(ask("m", ONE, version="2"))  # pinned requests are not mirrored
    counts = gate.plane.counters.shadow("m", 1, 2)
    wait_for(lambda: counts.compared + counts.dropped == 50)
    assert counts.disagreed == counts.compared > 0
    assert counts.max_abs_diff == 2
    assert counts.sum_abs_diff == 2.0 * counts.values
    wait_for(lambda: gate.loaded["m"][2].in_flight == 0)


def test_a_shadow_that_mixes_rows_is_run_request_by_request(gate, wait_for):
    """Its answers are those it would give if it served: x minus its own mean, never minus the batch's."""
    gate.load("m", 1, scale(0), is_class=False)
    shadow = gate.load("m", 2, batch_mean(), is_class=False)
    assert not shadow.is_batched
    gate.route("m", 1, shadow=Shadow(2, 100))
    method = gate.channel.unary_unary(INFER_METHOD)
    requests = [ask("m", np.full((1, 4), i, np.float32)).SerializeToString() for i in range(100)]
    futures = [method.future(request, timeout=20) for request in requests]
    assert all(future.result() for future in futures)
    counts = gate.plane.counters.shadow("m", 1, 2)
    wait_for(lambda: counts.compared + counts.dropped == 100)
    assert counts.compared > 0
    assert (counts.disagreed, counts.max_abs_diff) == (0, 0)


def test_a_mistake_in_the_comparison_ends_neither_the_shadow_nor_its_leases(gate, wait_for, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    gate.load("m", 1, scale(1))
    gate.load("m", 2, scale(1))
    gate.route("m", 1, shadow=Shadow(2, 100))
    counts = gate.plane.counters.shadow("m", 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr("gateway.serving.shadow.mirror.compare", broken)
        gate.infer(ask("m", ONE))
        wait_for(lambda: counts.failed == 1)
    gate.infer(ask("m", ONE))
    wait_for(lambda: counts.compared == 1)
    wait_for(lambda: gate.loaded["m"][2].in_flight == 0)


@pytest.mark.parametrize("model", [scale(2), slow()], ids=["lane's thread", "own thread"])
def test_a_mistake_after_the_answer_ends_no_thread_and_no_caller(gate, wait_for, monkeypatch, model):
    served = gate.load("m", 1, model)
    gate.route("m", 1)
    with monkeypatch.context() as patched:
        patched.setattr("gateway.serving.account._count", lambda *_: 1 / 0)
        assert len(gate.infer(ask("m", ONE)).raw_output_contents) == 1
        wait_for(lambda: not served.in_flight)
    for _ in range(3):
        assert len(gate.infer(ask("m", ONE)).raw_output_contents) == 1


def test_the_shadows_percentage_is_kept(gate, wait_for):
    gate.load("m", 1, scale(1))
    gate.load("m", 2, scale(1))
    gate.route("m", 1, shadow=Shadow(2, 20))
    for _ in range(400):
        gate.infer(ask("m", ONE))
    counts = gate.plane.counters.shadow("m", 1, 2)
    copied = lambda: counts.compared + counts.dropped  # noqa: E731
    wait_for(lambda: gate.loaded["m"][2].in_flight == 0)
    assert 40 < copied() < 130  # 80 expected; six standard deviations wide
    assert counts.disagreed == 0


def test_a_shadow_that_fails_is_counted_and_harms_nobody(gate, wait_for):
    gate.load("m", 1, scale(1, columns=4))
    gate.load("m", 2, scale(1, columns=5))  # takes another shape
    gate.route("m", 1, shadow=Shadow(2, 100))
    for _ in range(20):
        gate.infer(ask("m", ONE))
    counts = gate.plane.counters.shadow("m", 1, 2)
    wait_for(lambda: counts.failed + counts.dropped == 20)
    assert counts.failed > 0


def test_a_full_shadow_queue_drops_and_counts(gate, wait_for):
    gate.load("m", 1, scale(1))
    gate.load("m", 2, slow(20_000))
    gate.route("m", 1, shadow=Shadow(2, 100))
    method = gate.channel.unary_unary(INFER_METHOD)
    message = ask("m", ONE).SerializeToString()
    futures = [method.future(message, timeout=30) for _ in range(600)]
    assert all(future.result() for future in futures)
    counts = gate.plane.counters.shadow("m", 1, 2)
    wait_for(lambda: counts.dropped > 0)
    gate.route("m", 1)


def test_predictions_are_kept_in_columns_for_the_log(open_gate, wait_for):
    gate = open_gate("fast")
    gate.load("m", 1, scale(1, columns=1))
    gate.route("m", 1)
    if gate.loaded["m"][1].prediction is None:
        pytest.fail("a single number a row is a regression")
    request = ask("m", np.float32([[5], [6]]))
    request.id = "mine"
    response = gate.infer(request)
    batches = []
    wait_for(lambda: batches.extend(gate.plane.take_predictions()) or batches)
    known = parse(response.parameters["prediction_id"].string_param)
    assert (batches[0].times_ms, batches[0].epoch, batches[0].counters) == ((known.time_ms,), known.epoch, (known.counter,))
    assert (batches[0].inference_ids, batches[0].rows, batches[0].numbers) == (("mine",), (2,), (5.0, 6.0))
    assert (batches[0].model, batches[0].version, batches[0].arms) == ("m", 1, ("default",))


def test_a_bf16_prediction_is_kept_as_its_number_and_not_as_its_bits(open_gate, wait_for):
    gate = open_gate("fast")
    gate.load("m", 1, identity(TensorProto.BFLOAT16, ["n", 1]))
    gate.route("m", 1)
    gate.infer(ask("m", np.array([[0x3FC0], [0xC000]], np.uint16), datatype="BF16"))  # 1.5 and -2
    batches = []
    wait_for(lambda: batches.extend(gate.plane.take_predictions()) or batches)
    assert batches[0].numbers == (1.5, -2.0)


def test_a_model_that_turns_out_slow_no_longer_runs_in_the_lanes_thread(gate):
    served = gate.load("m", 1, scale(2))
    assert served.pace.is_inline
    served.pace.ran([1], 1_000, 0)
    for _ in range(10):  # by the clock alone, as when another thread has taken the core
        served.pace.ran([1], 50_000_000, 100_000 if served.pace.is_doubted else 0)
        assert served.pace.is_inline
    for _ in range(3):
        assert served.pace.is_inline
        served.pace.ran([1], 50_000_000, 50_000_000)
    assert not served.pace.is_inline
    gate.route("m", 1)
    assert answer(gate.infer(ask("m", ONE))).tolist() == [[2, 2, 2, 2]]


def test_the_processor_time_of_a_doubted_version_is_measured(gate, wait_for):
    served = gate.load("m", 1, scale(2))
    gate.route("m", 1)
    served.pace.ran([1], 50_000_000, 0)
    assert served.pace.is_doubted
    told = []
    served.pace.ran = lambda rows, run_ns, processor_ns: told.append((run_ns, processor_ns))
    gate.infer(ask("m", ONE))
    wait_for(lambda: told)
    run_ns, processor_ns = told[0]
    assert run_ns > 0
    assert 0 < processor_ns < 1_000_000_000


def test_the_warm_up_of_a_slow_model_ends_in_time(gate, monkeypatch):
    """Without the budget every batch size up to 64 rows would be run several times."""
    monkeypatch.setattr("gateway.versions.warm_up.BUDGET_S", 0.0)
    served = gate.load("s", 1, slow())
    assert not served.pace.is_inline
    gate.route("s", 1)
    assert answer(gate.infer(ask("s", ONE))).tolist() == ONE.tolist()
