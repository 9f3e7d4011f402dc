"""
The example programs of Triton's Python client, call by call, against a gateway of either lane.

https://github.com/triton-inference-server/client/tree/main/src/python/examples
"""

from __future__ import annotations

import asyncio
import queue
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.utils.shared_memory as shm
from running import Running
from triton_models import SHAPE, write
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor, serialize_byte_tensor

from gateway.client import AdminClient

COUNT = np.arange(16, dtype=np.int32).reshape(SHAPE)
ONES = np.ones(SHAPE, np.int32)
TEXTS = [np.array([str(value).encode() for value in array.reshape(-1)], np.object_).reshape(SHAPE) for array in (COUNT, ONES)]
EXPECTED = (COUNT + ONES).tolist(), (COUNT - ONES).tolist()


@pytest.fixture(scope="module", params=["fast", "standard"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One worker on either lane, with everything switched on that Triton has on, and the models of the programs."""
    folder = tmp_path_factory.mktemp(request.param)
    running = Running(folder / "home", "--lane", request.param, "--shared-memory", "--model-control", workers=1)
    try:
        with AdminClient(running.admin) as admin:
            for name, path in write(folder).items():
                classes = list("abcd") if name == "scores" else []
                admin.register(name, path, prediction=("OUTPUT0", "scores") if classes else None, classes=classes).result()
                admin.deploy(name, 1).result()
        yield running
    finally:
        running.end()


@pytest.fixture
def client(gateway: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(gateway.data) as made:
        yield made


@pytest.fixture
def stub(gateway: Running) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(gateway.data) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def inputs(arrays: Any = (COUNT, ONES), datatype: str = "INT32", module: Any = triton) -> list[Any]:
    made = []
    for index, array in enumerate(arrays):
        made.append(module.InferInput(f"INPUT{index}", list(array.shape), datatype))
        made[-1].set_data_from_numpy(array)
    return made


def outputs(module: Any = triton) -> list[Any]:
    return [module.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]


def numbers(result: Any) -> tuple[list, list]:
    first, second = (result.as_numpy(name) for name in ("OUTPUT0", "OUTPUT1"))
    return first.astype(np.int32).tolist(), second.astype(np.int32).tolist()


def test_simple_grpc_infer_client(client: triton.InferenceServerClient) -> None:
    assert numbers(client.infer("simple", inputs(), outputs=outputs(), headers={"test": "1"})) == EXPECTED
    assert numbers(client.infer("simple", inputs(), compression_algorithm="gzip")) == EXPECTED
    (statistics,) = client.get_inference_statistics("simple").model_stats
    assert statistics.name == "simple"
    with pytest.raises(InferenceServerException) as raised:
        client.get_inference_statistics("wrong_model_name")
    assert raised.value.status() == "StatusCode.NOT_FOUND"


def test_simple_grpc_async_infer_client(client: triton.InferenceServerClient) -> None:
    came: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    for _ in range(16):
        client.async_infer("simple", inputs(), lambda result, error: came.put((result, error)), outputs=outputs())
    for _ in range(16):
        result, error = came.get(timeout=20)
        assert (error, numbers(result)) == (None, EXPECTED)


def test_simple_grpc_aio_infer_client(gateway: Running) -> None:
    async def calls() -> list[tuple[list, list]]:
        async with triton_aio.InferenceServerClient(gateway.data) as client:
            made = (client.infer("simple", inputs(module=triton_aio), outputs=outputs(triton_aio)) for _ in range(16))
            return [numbers(result) for result in await asyncio.gather(*made)]

    assert asyncio.run(calls()) == [EXPECTED] * 16


def test_simple_grpc_string_infer_client(client: triton.InferenceServerClient) -> None:
    assert numbers(client.infer("simple_string", inputs(TEXTS, "BYTES"), outputs=outputs())) == EXPECTED
    texts = np.array([[f"text {index} ä".encode() for index in range(16)]], np.object_)
    assert client.infer("simple_identity", inputs([texts], "BYTES")).as_numpy("OUTPUT0").tolist() == texts.tolist()


@pytest.mark.parametrize("datatype", ["INT32", "BYTES"], ids=["simple_grpc_shm_client", "simple_grpc_shm_string_client"])
def test_simple_grpc_shm_client(client: triton.InferenceServerClient, datatype: str) -> None:
    """Unregisters what may be left, of both kinds; then inputs and outputs in regions, and the status of one and of all."""
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    arrays = [COUNT, ONES] if datatype == "INT32" else [serialize_byte_tensor(texts) for texts in TEXTS]
    sizes = [array.nbytes if datatype == "INT32" else len(array.item()) for array in arrays]
    handles, asked, wanted = {}, inputs([COUNT, ONES], "INT32") if datatype == "INT32" else inputs(TEXTS, "BYTES"), outputs()
    try:
        for index, (array, size) in enumerate(zip(arrays, sizes, strict=True)):
            for kind, tensor, room in (("input", asked[index], size), ("output", wanted[index], size + 64)):
                name = f"{kind}{index}_{uuid.uuid4().hex[:8]}"
                handles[kind, index] = shm.create_shared_memory_region(name, f"/interlock-{name}", room)
                if kind == "input":
                    shm.set_shared_memory_region(handles[kind, index], [array])
                client.register_system_shared_memory(name, f"/interlock-{name}", room)
                assert list(client.get_system_shared_memory_status(name).regions) == [name]
                tensor.set_shared_memory(name, room)
        result = client.infer("simple" if datatype == "INT32" else "simple_string", asked, outputs=wanted)
        dtype = np.int32 if datatype == "INT32" else np.object_
        told = [
            shm.get_contents_as_numpy(handles["output", index], dtype, result.get_output(f"OUTPUT{index}").shape)
            for index in (0, 1)
        ]
        assert tuple(array.astype(np.int32).tolist() for array in told) == EXPECTED
        assert len(client.get_system_shared_memory_status().regions) == 4
        assert not client.get_cuda_shared_memory_status().regions
    finally:
        client.unregister_system_shared_memory()
        for handle in handles.values():
            shm.destroy_shared_memory_region(handle)
    assert not client.get_system_shared_memory_status().regions


def test_simple_grpc_keepalive_client(gateway: Running) -> None:
    options = triton.KeepAliveOptions(
        keepalive_time_ms=2**31 - 1,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=False,
        http2_max_pings_without_data=2,
    )
    with triton.InferenceServerClient(gateway.data, keepalive_options=options) as client:
        assert numbers(client.infer("simple", inputs(), outputs=outputs())) == EXPECTED


def test_simple_grpc_custom_args_client(gateway: Running) -> None:
    arguments = [("grpc.primary_user_agent", "custom"), ("grpc.lb_policy_name", "pick_first"), ("grpc.enable_retries", 0)]
    with triton.InferenceServerClient(gateway.data, channel_args=arguments) as client:
        assert numbers(client.infer("simple", inputs(), outputs=outputs())) == EXPECTED


def _explicit(model: str, datatype: str, field: str, values: list[list[Any]]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, id="my request id")
    for index, contents in enumerate(values):
        tensor = request.inputs.add(name=f"INPUT{index}", datatype=datatype, shape=SHAPE)
        getattr(tensor.contents, field).extend(contents)
        request.outputs.add(name=f"OUTPUT{index}")
    return request


@pytest.mark.parametrize(
    ("model", "datatype", "dtype"),
    [("simple", "INT32", np.int32), ("simple_int8", "INT8", np.int8)],
    ids=["grpc_explicit_int_content_client", "grpc_explicit_int8_content_client"],
)
def test_grpc_explicit_int_content_client(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, model: str, datatype: str, dtype: type
) -> None:
    request = _explicit(model, datatype, "int_contents", [COUNT.reshape(-1).tolist(), [1] * 16])
    response = stub.ModelInfer(request)
    told = [np.frombuffer(raw, dtype).reshape(SHAPE).astype(np.int32).tolist() for raw in response.raw_output_contents]
    assert (response.id, tuple(told)) == ("my request id", EXPECTED)
    request.raw_input_contents.append(b"0")
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "typed contents beside raw_input_contents" in raised.value.details()


def test_grpc_explicit_byte_content_client(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    values = [array.reshape(-1).tolist() for array in TEXTS]
    response = stub.ModelInfer(_explicit("simple_string", "BYTES", "bytes_contents", values))
    told = [deserialize_bytes_tensor(raw).reshape(SHAPE).astype(np.int32).tolist() for raw in response.raw_output_contents]
    assert tuple(told) == EXPECTED


def test_grpc_client(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    """The generated stub: health, metadata, configuration, and raw contents."""
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name="simple", version="1")).ready
    assert stub.ServerMetadata(service_pb2.ServerMetadataRequest()).name == "interlock"
    assert stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="simple")).platform == "onnxruntime_onnx"
    assert stub.ModelConfig(service_pb2.ModelConfigRequest(name="simple")).config.name == "simple"
    request = _explicit("simple", "INT32", "int_contents", [[], []])
    request.raw_input_contents.extend((COUNT.tobytes(), ONES.tobytes()))
    for tensor in request.inputs:
        tensor.ClearField("contents")
    raw = stub.ModelInfer(request).raw_output_contents
    assert tuple(np.frombuffer(one, np.int32).reshape(SHAPE).tolist() for one in raw) == EXPECTED


def test_simple_grpc_health_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live(headers={"test": "1"})
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.get_model_metadata("simple").name == "simple"
    with pytest.raises(InferenceServerException):
        client.get_model_metadata("wrong_model_name")


def test_simple_grpc_model_control(client: triton.InferenceServerClient) -> None:
    client.load_model("simple_identity")
    assert client.is_model_ready("simple_identity")
    client.unload_model("simple_identity")
    assert not client.is_model_ready("simple_identity")
    client.load_model("simple_identity")
    assert client.is_model_ready("simple_identity")
    with pytest.raises(InferenceServerException, match="wrong_model_name"):
        client.load_model("wrong_model_name")
    with pytest.raises(InferenceServerException, match="parameter 'config'") as raised:
        client.load_model("simple", config="{}")
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"


def test_streams_of_requests(client: triton.InferenceServerClient) -> None:
    came: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: came.put((result, error)))
    for index in range(20):
        client.async_stream_infer("simple", inputs(), outputs=outputs(), request_id=str(index))
    client.async_stream_infer("simple", inputs(), sequence_id=7, sequence_start=True)
    told = [came.get(timeout=20) for _ in range(21)]
    client.stop_stream()
    assert [(result.get_response().id, numbers(result)) for result, _ in told[:20]] == [(str(i), EXPECTED) for i in range(20)]
    assert "sequences are not supported" in str(told[20][1])


def test_streams_of_the_asyncio_client(gateway: Running) -> None:
    async def stream() -> list[tuple[list, list]]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for _ in range(20):
                yield {"model_name": "simple", "inputs": inputs(module=triton_aio), "outputs": outputs(triton_aio)}

        async with triton_aio.InferenceServerClient(gateway.data) as client:
            return [numbers(result) async for result, error in client.stream_infer(requests()) if error is None]

    assert asyncio.run(stream()) == [EXPECTED] * 20


def test_sequences_are_refused(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="parameter 'sequence_id': sequences are not supported") as raised:
        client.infer("simple", inputs(), sequence_id=1, sequence_start=True, sequence_end=True)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_image_client(client: triton.InferenceServerClient) -> None:
    """Asks for classes, as it does for pictures."""
    rows = np.array([[0.5, -1.5, -0.25, 1], [1, 2, 3, -4]], np.float32)
    wanted = [triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    classes = client.infer("scores", inputs([rows], "FP32"), outputs=wanted).as_numpy("OUTPUT0")
    assert classes.tolist() == [[b"1.500000:1:b", b"0.250000:2:c"], [b"4.000000:3:d", b"-1.000000:0:a"]]
