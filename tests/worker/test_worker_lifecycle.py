from __future__ import annotations

import threading

import grpc
import msgspec
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from keepalive import PINGS, pings_answered
from worker_bench import FakeControl, WorkerBench, held, served

from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredState
from gateway.contract.handshake import Hello
from gateway.contract.observed import Observed, Report, Reported
from gateway.contract.predictions import PredictionBatch
from gateway.contract.traces import RequestTrace, TraceContext, Traces
from gateway.errors import NotReady
from gateway.protocol.services import INFER_METHOD
from gateway.serving.lane.server import CannotListen

TRACE = RequestTrace(TraceContext("f" * 32), "a.B/C", "OK", 1, 2, 3, 4, 5, 6)


def batch(name: str) -> PredictionBatch:
    return PredictionBatch("digits", 1, ("default",), "class", 1, (0,), (0,), (name,), (1,), ("7",))


def infer(address: str, message: bytes = b"hello") -> bytes:
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(INFER_METHOD)(message, timeout=5)


@pytest.mark.parametrize("lane", ["fast", "standard"])
def test_it_serves_inference_on_the_lane_when_start_returns(bench: WorkerBench, lane: str) -> None:
    worker = bench.started(FakeControl(served(1, 1)), lane=lane)
    assert infer(worker.address) == b"hello"


def test_hello_is_the_first_message_and_observed_follows(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    worker = bench.started(control, number=3)
    wait_for(lambda: (last := control.last_observed()) and last.is_serving)
    assert isinstance(control.messages[0], Hello)
    assert (control.messages[0].worker, control.messages[0].incarnation) == (3, worker.incarnation)
    assert control.last_observed().routes == {"digits": 1}


def test_the_port_opens_only_when_what_is_routed_is_ready(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    bench.plane.gate.clear()
    worker = bench.worker(control)
    starting = threading.Thread(target=worker.start)
    starting.start()
    wait_for(lambda: (last := control.last_observed()) and last.versions)
    assert worker.address == ""
    bench.plane.gate.set()
    starting.join(10)
    assert infer(worker.address) == b"hello"


def test_a_version_that_fails_does_not_keep_the_port_closed(bench: WorkerBench) -> None:
    control = FakeControl(served(1, 1, held(1, digest="bad")))
    worker = bench.started(control)
    assert infer(worker.address) == b"hello"
    assert control.last_observed().versions[0].state == "FAILED"


def test_it_starts_from_the_file_when_control_is_away_and_follows_it_when_back(bench: WorkerBench, wait_for) -> None:
    bench.state_file.write_bytes(msgspec.json.encode(served(7, 2)))
    control = FakeControl(None)
    control.is_away = True
    worker = bench.started(control)
    assert worker.snapshot.routes["digits"].default == 2
    control.state, control.is_away = served(8, 3), False
    wait_for(lambda: worker.snapshot.routes["digits"].default == 3)


def test_without_control_and_file_it_says_so(bench: WorkerBench) -> None:
    control = FakeControl(None)
    control.is_away = True
    with pytest.raises(NotReady, match="no state in"):
        bench.worker(control, load_timeout_s=0.1).start()


def test_a_file_that_is_cut_off_is_no_state(bench: WorkerBench) -> None:
    bench.state_file.write_bytes(msgspec.json.encode(served(7, 2))[:-20])
    control = FakeControl(None)
    control.is_away = True
    with pytest.raises(NotReady, match="no state in"):
        bench.worker(control, load_timeout_s=0.1).start()


def test_it_goes_on_serving_when_control_dies_and_reconnects(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    worker = bench.started(control)
    control.go_away()
    assert infer(worker.address) == b"hello"
    control.messages.clear()
    control.is_away = False
    wait_for(lambda: control.of(Telemetry))
    assert [type(message) for message in control.messages[:2]] == [Hello, Observed]
    assert control.of(Observed)[0].is_serving


def test_what_was_predicted_while_control_was_away_is_sent_when_it_is_back(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    bench.started(control)
    control.go_away()
    bench.plane.predictions = [batch("a"), batch("b")]
    bench.plane.traces = [TRACE]
    wait_for(lambda: not bench.plane.predictions)
    assert bench.plane.traces, "left where they are bounded and counted"
    control.is_away = False
    wait_for(lambda: [b.inference_ids for b in control.of(PredictionBatch)] == [("a",), ("b",)])
    wait_for(lambda: control.of(Traces) == [Traces((TRACE,))])


def test_a_report_is_answered_with_everything_before_its_token(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    bench.started(control, report_period_s=60)
    wait_for(lambda: (last := control.last_observed()) and last.is_serving)
    wait_for(lambda: control.of(Telemetry))
    control.messages.clear()
    bench.plane.predictions = [batch("a"), batch("b")]
    bench.plane.traces = [TRACE]
    control.link.send(Report(42))
    wait_for(lambda: control.of(Reported))
    assert [type(m) for m in control.messages] == [Observed, Telemetry, PredictionBatch, PredictionBatch, Traces, Reported]
    assert control.messages[-1].token == 42


def test_counts_are_sent_with_the_incarnation_and_the_loads(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    worker = bench.started(control)
    wait_for(lambda: any(t.loads == {"digits|1|ok": 1} for t in control.of(Telemetry)))
    assert {t.incarnation for t in control.of(Telemetry)} == {worker.incarnation}


def test_a_swap_is_announced_and_served(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    worker = bench.started(control)
    control.push(served(2, 2))
    wait_for(lambda: control.last_observed().routes == {"digits": 2} and len(control.last_observed().versions) == 1)
    assert worker.snapshot.routes["digits"].default == 2
    assert bench.plane.snapshot is worker.snapshot


@pytest.mark.parametrize("lane", ["fast", "standard"])
def test_a_call_in_flight_is_answered_when_it_stops(bench: WorkerBench, lane: str) -> None:
    worker = bench.started(FakeControl(served(1, 1)), lane=lane)
    bench.plane.answer_gate.clear()
    with grpc.insecure_channel(worker.address) as channel:
        answer = channel.unary_unary(INFER_METHOD).future(b"late", timeout=10)
        assert bench.plane.has_call.wait(5)
        stopping = threading.Thread(target=worker.stop)
        stopping.start()
        bench.plane.answer_gate.set()
        assert answer.result(10) == b"late"
        stopping.join(10)
    assert not stopping.is_alive()


@pytest.mark.parametrize("lane", ["fast", "standard"])
def test_callers_of_a_shared_port_do_not_notice_that_a_worker_stops(bench: WorkerBench, lane: str, wait_for) -> None:
    workers = [bench.started(FakeControl(served(1, 1)), lane=lane)]
    workers.append(bench.started(FakeControl(served(1, 1)), lane=lane, data_address=workers[0].address))
    errors: list[str] = []
    counts = [0] * 6
    is_over = threading.Event()

    def call(index: int) -> None:
        with grpc.insecure_channel(workers[0].address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(INFER_METHOD)
            while not is_over.is_set():
                try:
                    method(b"x", timeout=10)
                    counts[index] += 1
                except grpc.RpcError as error:
                    errors.append(f"{error.code()}: {error.details()}")

    callers = [threading.Thread(target=call, args=(index,)) for index in range(len(counts))]
    for caller in callers:
        caller.start()
    for round_ in range(4):
        before = list(counts)
        workers.pop(0).stop()
        workers.append(bench.started(FakeControl(served(1, 1)), lane=lane, data_address=workers[0].address))
        wait_for(lambda before=before: all(now > was for now, was in zip(counts, before, strict=True)), what=f"round {round_}")
    is_over.set()
    for caller in callers:
        caller.join(10)
    assert errors == []


def test_the_last_predictions_and_traces_are_sent_before_the_connection_closes(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    worker = bench.started(control, report_period_s=60)
    bench.plane.predictions = [batch("last")]
    bench.plane.traces = [TRACE]
    worker.stop()
    wait_for(lambda: control.of(PredictionBatch) and control.of(Traces))
    assert not control.last_observed().is_serving


def test_stopping_a_start_that_waits_ends_it(bench: WorkerBench, wait_for) -> None:
    control = FakeControl(served(1, 1))
    bench.plane.gate.clear()
    worker = bench.worker(control)
    starting = threading.Thread(target=worker.start)
    starting.start()
    wait_for(lambda: control.last_observed())
    worker.stop()
    starting.join(5)
    assert not starting.is_alive()
    assert worker.address == ""


def test_a_port_in_use_is_told(bench: WorkerBench) -> None:
    first = bench.started(FakeControl(served(1, 1)), is_port_shared=False)
    with pytest.raises(CannotListen, match=f"cannot listen on {first.address}"):
        bench.worker(FakeControl(DesiredState(1)), is_port_shared=False, data_address=first.address).start()


def test_two_workers_share_a_port(bench: WorkerBench) -> None:
    first = bench.started(FakeControl(served(1, 1)))
    second = bench.started(FakeControl(served(1, 1)), data_address=first.address)
    assert second.address == first.address


def test_a_worker_that_was_replaced_goes_without_saying_that_it_does_not_serve(bench: WorkerBench) -> None:
    worker = bench.started(FakeControl(served(1, 1)), drain_delay_s=60.0)
    with grpc.insecure_channel(worker.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        seen = [next(watch).status]
        worker.stop(is_replaced=True)  # nor does it wait for load balancers to notice
        seen += [response.status for response in watch]
    assert set(seen) == {health_pb2.HealthCheckResponse.SERVING}


def test_a_replacement_without_all_that_is_routed_does_not_serve(bench: WorkerBench) -> None:
    worker = bench.worker(FakeControl(served(1, 1, held(1, digest="bad"))), must_be_ready=True)
    with pytest.raises(NotReady, match=r"digits v1 is FAILED .*bad file"):
        worker.start()
    assert worker.address == ""


def test_another_worker_serves_what_it_has(bench: WorkerBench) -> None:
    worker = bench.started(FakeControl(served(1, 1, held(1, digest="bad"))))
    assert worker.is_serving


@pytest.mark.parametrize("lane", ["fast", "standard"])
def test_a_client_that_keeps_its_connection_alive_by_pings_is_not_sent_away(bench: WorkerBench, lane: str) -> None:
    assert pings_answered(bench.started(FakeControl(served(1, 1)), lane=lane).address) == PINGS
