"""The data port's calls beside inference, as tritonclient and grpc's own health client see them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import pytest
import tritonclient.grpc as triton
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from tritonclient.utils import InferenceServerException
from worker_bench import SERIAL, FakeControl, WorkerBench, held, served

from gateway.api.health_list import ListResponse
from gateway.contract.counts import ArmCounts
from gateway.contract.desired import DesiredModel, DesiredState, Region
from gateway.contract.feedback import Verdict, VerdictKind
from gateway.contract.questions import (
    Ask,
    AskError,
    Done,
    FeedbackQuestion,
    Index,
    IndexEntry,
    IndexQuestion,
    LoadModelQuestion,
    RegisterRegionQuestion,
    Statistics,
    StatisticsQuestion,
    UnloadModelQuestion,
    Verdicts,
    VersionStatistics,
)
from gateway.protocol.pb import feedback_pb2, inference_pb2
from gateway.protocol.services import FEEDBACK, INFERENCE, INFERENCE_NAME, Stub
from gateway.worker.worker import Worker
from registry.deployment import Batching

VERSIONS = (
    held(1, batching=Batching(queue_delay_us=500, preferred_rows=(2, 4), max_waiting=100)),
    held(2, batching=Batching("off")),
    held(3, digest="bad"),
    held(4, batching=Batching("on", 8, 500), signature=SERIAL),
)
STATE = served(1, 1, *VERSIONS, aliases={"champion": 2, "ghost": 9, "broken": 3})


@pytest.fixture
def control() -> FakeControl:
    return FakeControl(DesiredState(1, (*STATE.models, DesiredModel("idle", (held(1),), None))))


@pytest.fixture
def worker(bench: WorkerBench, control: FakeControl, wait_for) -> Worker:
    worker = bench.started(control, reflection=True)
    wait_for(lambda: worker.snapshot.states["idle"] == {1: "READY"} and set(worker.snapshot.ready["digits"]) == {1, 2, 4})
    return worker


@pytest.fixture
def client(worker: Worker) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(worker.address) as client:
        yield client


@pytest.fixture
def channel(worker: Worker) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(worker.address) as channel:
        yield channel


def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel, INFERENCE, name=INFERENCE_NAME)


def info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(error).details[0].Unpack(found)
    return found


# ---- answered by the worker --------------------------------------------------------------------------------------------


def test_the_server_is_live_ready_and_says_what_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "interlock"
    assert {"model_repository", "model_configuration", "statistics", "binary_tensor_data"} <= set(metadata.extensions)
    assert "system_shared_memory" not in metadata.extensions


def test_metadata_is_of_the_routed_version_with_all_ready_ones_listed(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata("digits")
    assert (metadata.platform, list(metadata.versions)) == ("onnxruntime_onnx", ["1", "2", "4"])
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("x", "FP32", [-1, 4]),
        ("words", "BYTES", [-1, 1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("y", "INT64", [-1])]


def test_metadata_resolves_numbers_and_aliases(client: triton.InferenceServerClient) -> None:
    assert client.get_model_metadata("digits", "4").inputs[0].name == "a"
    assert client.get_model_metadata("digits", "champion").inputs[0].name == "x"
    assert client.get_model_metadata("idle", "1").versions == ["1"]


@pytest.mark.parametrize(
    ("model", "version", "code", "text"),
    [
        ("nobody", "", "NOT_FOUND", "model 'nobody': not found among the models served here"),
        ("digits", "7", "NOT_FOUND", "has no version or alias '7' loaded here, there is 1, 2, 4, champion"),
        ("digits", "ghost", "NOT_FOUND", "has no version or alias 'ghost' loaded here"),
        ("digits", "nickname", "NOT_FOUND", "has no version or alias 'nickname' loaded here"),
        ("digits", "3", "UNAVAILABLE", "version 3 is FAILED"),
        ("digits", "broken", "UNAVAILABLE", "version 3 is FAILED"),
        ("idle", "", "NOT_FOUND", "not deployed: name one of its versions"),
    ],
)
def test_what_cannot_be_described_is_not_found_or_unavailable(
    client: triton.InferenceServerClient, model: str, version: str, code: str, text: str
) -> None:
    for call in (client.get_model_metadata, client.get_model_config):
        with pytest.raises(InferenceServerException) as raised:
            call(model, version)
        assert raised.value.status() == f"StatusCode.{code}"
        assert text in raised.value.message()


def test_a_model_is_ready_when_a_request_would_be_served(client: triton.InferenceServerClient) -> None:
    asked = [("digits", ""), ("digits", "2"), ("digits", "champion"), ("digits", "3"), ("idle", ""), ("nobody", "")]
    assert [client.is_model_ready(*one) for one in asked] == [True, True, True, False, False, False]


def test_the_config_of_a_batched_model_leaves_the_batch_axis_out(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("digits").config
    assert (config.name, config.platform, config.backend) == ("digits", "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == 64
    assert [(i.name, i.data_type, list(i.dims), i.optional) for i in config.input] == [
        ("x", 11, [4], False),
        ("words", 13, [1], True),
    ]
    assert [(o.name, o.data_type, list(o.dims)) for o in config.output] == [("y", 9, [])]
    assert config.HasField("dynamic_batching")


def test_the_config_tells_how_a_version_batches_and_queues(client: triton.InferenceServerClient) -> None:
    batching = client.get_model_config("digits", "1").config.dynamic_batching
    assert list(batching.preferred_batch_size) == [2, 4]
    assert (batching.max_queue_delay_microseconds, batching.default_queue_policy.max_queue_size) == (500, 100)


@pytest.mark.parametrize(("version", "dims"), [("2", [-1, 4]), ("4", [2, -1])])
def test_the_config_of_an_unbatched_model_has_whole_shapes(
    client: triton.InferenceServerClient, version: str, dims: list[int]
) -> None:
    config = client.get_model_config("digits", version).config
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == dims
    assert not config.HasField("dynamic_batching")


# ---- answered by control -----------------------------------------------------------------------------------------------


def test_statistics_and_index_come_from_control(client: triton.InferenceServerClient, control: FakeControl) -> None:
    counts = ArmCounts("digits", 2, "default", rows=5)
    control.answers[StatisticsQuestion] = lambda question: Statistics((VersionStatistics("digits", 2, counts),))
    control.answers[IndexQuestion] = lambda question: Index((IndexEntry("digits", 1, "READY"),))
    assert client.get_inference_statistics("digits").model_stats[0].inference_count == 5
    assert client.get_model_repository_index().models[0].state == "READY"


def test_an_alias_reaches_control_as_a_number(client: triton.InferenceServerClient, control: FakeControl) -> None:
    control.answers[StatisticsQuestion] = lambda question: Statistics(())
    client.get_inference_statistics("digits", "champion")
    assert control.of(Ask)[0].question == StatisticsQuestion("digits", "2")


def test_an_error_of_control_reaches_the_caller_whole(channel: grpc.Channel, control: FakeControl) -> None:
    error = AskError("ModelUnknown", "MODEL_NOT_FOUND", "no model 'x'", {"model": "x"})
    control.answers[StatisticsQuestion] = lambda question: error
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).ModelStatistics(inference_pb2.ModelStatisticsRequest(name="x"))
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "no model 'x'")
    assert (info(raised.value).reason, dict(info(raised.value).metadata)) == ("MODEL_NOT_FOUND", {"model": "x"})


def test_without_control_the_caller_may_try_again(
    channel: grpc.Channel, worker: Worker, control: FakeControl, wait_for
) -> None:
    control.go_away()
    with pytest.raises(grpc.RpcError, match=r"control (is|became) unreachable") as raised:
        stub(channel).RepositoryIndex(inference_pb2.RepositoryIndexRequest())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info(raised.value).reason == "NOT_READY"


def test_an_ask_that_control_never_answers_ends_when_control_goes(
    channel: grpc.Channel, control: FakeControl, wait_for
) -> None:
    control.answers[IndexQuestion] = lambda question: None
    asked = stub(channel).RepositoryIndex.future(inference_pb2.RepositoryIndexRequest())
    wait_for(lambda: control.of(Ask))
    control.go_away()
    assert "became unreachable" in asked.exception(5).details()


def test_an_ask_waits_no_longer_than_the_caller(channel: grpc.Channel, control: FakeControl) -> None:
    control.answers[IndexQuestion] = lambda question: None
    with pytest.raises(grpc.RpcError) as raised:
        stub(channel).RepositoryIndex(inference_pb2.RepositoryIndexRequest(), timeout=0.1)
    assert raised.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_load_and_unload_are_off_unless_switched_on(channel: grpc.Channel, control: FakeControl, method: str) -> None:
    with pytest.raises(grpc.RpcError, match="--model-control") as raised:
        getattr(stub(channel), method)(inference_pb2.RepositoryModelLoadRequest(model_name="digits"))
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert control.of(Ask) == []


def test_load_and_unload_reach_control_when_switched_on(bench: WorkerBench, control: FakeControl) -> None:
    for kind in (LoadModelQuestion, UnloadModelQuestion):
        control.answers[kind] = lambda question: Done(question.model)
    worker = bench.started(control, model_control=True)
    with triton.InferenceServerClient(worker.address) as client:
        client.load_model("digits")
        client.unload_model("digits")
    assert [ask.question for ask in control.of(Ask)] == [LoadModelQuestion("digits"), UnloadModelQuestion("digits")]


@pytest.mark.parametrize("method", ["Status", "Register", "Unregister"])
def test_shared_memory_is_off_unless_switched_on(channel: grpc.Channel, control: FakeControl, method: str) -> None:
    name = f"SystemSharedMemory{method}"
    with pytest.raises(grpc.RpcError, match="--shared-memory") as raised:
        getattr(stub(channel), name)(getattr(inference_pb2, f"{name}Request")(name="r"))
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert control.of(Ask) == []


def test_shared_memory_reaches_control_and_is_announced_when_switched_on(bench: WorkerBench, control: FakeControl) -> None:
    control.answers[RegisterRegionQuestion] = lambda question: Done()
    worker = bench.started(control, shared_memory=True)
    with triton.InferenceServerClient(worker.address) as client:
        assert "system_shared_memory" in client.get_server_metadata().extensions
        client.register_system_shared_memory("r", "/key", 64, offset=8)
    (ask,) = control.of(Ask)
    assert ask.question == RegisterRegionQuestion(Region("r", "/key", 8, 64, identity=""))


@pytest.mark.parametrize("name", ["", "r"])
def test_there_is_no_cuda_memory_to_list_or_to_unregister(client: triton.InferenceServerClient, name: str) -> None:
    assert not client.get_cuda_shared_memory_status(name).regions
    client.unregister_cuda_shared_memory(name)


def test_cuda_memory_is_refused_by_name(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="region 'r': there is no CUDA memory here") as raised:
        client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 64)
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def echoed(question: FeedbackQuestion) -> Verdicts:
    """A verdict per item that repeats its label, so that order shows."""
    return Verdicts(tuple(Verdict(VerdictKind.JOINED, item.label or "") for item in question.items))


def test_feedback_is_passed_on_and_its_verdicts_come_back_in_order(channel: grpc.Channel, control: FakeControl) -> None:
    control.answers[FeedbackQuestion] = echoed
    feedback = Stub(channel, FEEDBACK)
    items = [feedback_pb2.FeedbackItem(prediction_id=f"p{i}", label=str(i)) for i in range(30)]
    sent = feedback.SendFeedback(feedback_pb2.SendFeedbackRequest(items=items))
    chunks = (feedback_pb2.StreamFeedbackRequest(items=items[start : start + 7]) for start in range(0, 30, 7))
    streamed = feedback.StreamFeedback(chunks)
    assert [r.detail for r in sent.results] == [r.detail for r in streamed.results] == [str(i) for i in range(30)]


def test_open_feedback_streams_and_a_slow_control_leave_health_answered(
    channel: grpc.Channel, control: FakeControl, wait_for
) -> None:
    control.answers[StatisticsQuestion] = lambda question: None
    control.answers[FeedbackQuestion] = echoed
    is_over = threading.Event()

    def open_end() -> Iterator[feedback_pb2.StreamFeedbackRequest]:
        yield feedback_pb2.StreamFeedbackRequest(items=[feedback_pb2.FeedbackItem(label="a")])
        is_over.wait(10)

    streams = [Stub(channel, FEEDBACK).StreamFeedback.future(open_end()) for _ in range(10)]
    asks = [stub(channel).ModelStatistics.future(inference_pb2.ModelStatisticsRequest(), timeout=10) for _ in range(10)]
    wait_for(lambda: len(control.of(Ask)) == 20)
    assert health(channel) == "SERVING"
    is_over.set()
    assert all(len(stream.result(10).results) == 1 for stream in streams)
    for ask in asks:
        ask.cancel()
    control.go_away()


# ---- health and reflection ---------------------------------------------------------------------------------------------


def health(channel: grpc.Channel, service: str = "") -> str:
    response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def test_health_names_the_server_and_every_model(channel: grpc.Channel) -> None:
    assert [health(channel, name) for name in ("", "digits", "idle")] == ["SERVING", "SERVING", "NOT_SERVING"]


@pytest.mark.parametrize("service", [INFERENCE_NAME, FEEDBACK.full_name])
def test_health_names_the_services_of_the_port(channel: grpc.Channel, service: str) -> None:
    assert health(channel, service) == "SERVING"


@pytest.mark.parametrize("service", ["nobody", "x" * 20_000, "я" * 20_000], ids=["short", "long", "cyrillic"])
def test_a_service_that_is_unknown_to_health_is_not_found_in_words(channel: grpc.Channel, service: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        health(channel, service)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert "not found, expected '' for the server" in raised.value.details()


def test_health_lists_every_service_at_once(channel: grpc.Channel) -> None:
    listed = ListResponse.FromString(channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=5))
    status = health_pb2.HealthCheckResponse
    expected = dict.fromkeys(("", INFERENCE_NAME, FEEDBACK.full_name, "digits"), status.SERVING)
    expected["idle"] = status.NOT_SERVING
    assert {name: one.status for name, one in listed.statuses.items()} == expected


def test_a_model_that_goes_is_unknown_to_health(channel: grpc.Channel, control: FakeControl, wait_for) -> None:
    control.push(DesiredState(2, STATE.models))
    wait_for(lambda: health(channel, "idle") == "SERVICE_UNKNOWN")


def test_health_says_not_serving_before_the_port_closes(channel: grpc.Channel, worker: Worker) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    first = next(watch).status
    started = time.monotonic()
    worker.stop()
    seen = [first, *(response.status for response in watch)]
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert time.monotonic() - started < 3  # a watcher does not use up the grace


def test_reflection_shows_the_protocol_under_its_public_name(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert INFERENCE_NAME in database.get_services()
    file = database.FindFileContainingSymbol(INFERENCE_NAME)
    assert file.package == "inference"
    methods = {method.name: method.input_type for method in file.service[0].method}
    assert methods["ModelInfer"] == ".inference.ModelInferRequest"
    assert b"interlock.oip" not in file.SerializeToString()
