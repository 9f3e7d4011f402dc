"""A real client of the protocol, written by others, in the same process as ours: it must find what it expects."""

from __future__ import annotations

import asyncio
import queue
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from running import Running
from tiny import scaler
from tritonclient.utils import InferenceServerException

from gateway.client import AdminClient

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


@pytest.fixture
def client(gateway: Running) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(gateway.data)
    yield made
    made.close()


@pytest.fixture
def model(gateway: Running, tmp_path: Path) -> str:
    """A model of this test's own, deployed: version 1 doubles; version 2 triples and is only registered."""
    name = f"triton-{uuid.uuid4().hex[:8]}"
    with AdminClient(gateway.admin) as admin:
        for factor in (2.0, 3.0):
            admin.register(name, scaler(tmp_path / "m.onnx", factor)).result()
        admin.deploy(name, 1).result()
    return name


def _inputs(values: np.ndarray = ROWS, name: str = "x", datatype: str = "FP32") -> list[triton.InferInput]:
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return [tensor]


def test_it_infers(client: triton.InferenceServerClient, model: str) -> None:
    answer = client.infer(model, _inputs(), request_id="mine")
    assert answer.as_numpy("y").tolist() == (ROWS * 2).tolist()
    response = answer.get_response()
    assert (response.id, response.model_version) == ("mine", "1")
    assert response.parameters["prediction_id"].string_param


def test_it_reads_metadata_and_config(client: triton.InferenceServerClient, model: str) -> None:
    metadata = client.get_model_metadata(model)
    assert (metadata.platform, [tensor.name for tensor in metadata.inputs]) == ("onnxruntime_onnx", ["x"])
    assert list(metadata.inputs[0].shape) == [-1, 2]
    assert client.get_model_config(model).config.name == model
    assert client.get_server_metadata().name == "interlock"


def test_shared_memory_is_off_by_default_and_not_announced(client: triton.InferenceServerClient) -> None:
    assert "system_shared_memory" not in client.get_server_metadata().extensions
    with pytest.raises(InferenceServerException, match="--shared-memory") as caught:
        client.register_system_shared_memory("r", "/any", 8)
    assert caught.value.status() == "StatusCode.PERMISSION_DENIED"


def test_it_sees_what_is_ready(client: triton.InferenceServerClient, model: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert not client.is_model_ready("nobody")


def test_its_statistics_count_rows_exactly_over_all_workers(gateway: Running, model: str) -> None:
    for _ in range(10):  # connections are what is spread over workers
        client = triton.InferenceServerClient(gateway.data, channel_args=[("grpc.use_local_subchannel_pool", 1)])
        client.infer(model, _inputs())
        client.close()
    asking = triton.InferenceServerClient(gateway.data)
    (statistics,) = asking.get_inference_statistics(model).model_stats
    asking.close()
    assert (statistics.inference_count, statistics.inference_stats.success.count) == (20, 10)


def test_its_index_lists_the_model(client: triton.InferenceServerClient, model: str) -> None:
    states = {(entry.name, entry.version): entry.state for entry in client.get_model_repository_index().models}
    assert states[model, "1"] == "READY"


def test_it_unloads_and_loads(client: triton.InferenceServerClient, model: str) -> None:
    client.unload_model(model)
    with pytest.raises(InferenceServerException):
        client.infer(model, _inputs())
    client.load_model(model)
    assert client.infer(model, _inputs()).as_numpy("y").shape == (2, 2)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"name": "other"}, "INVALID_ARGUMENT", ["other"]),
        ({"values": np.zeros((2, 3), np.float32)}, "INVALID_ARGUMENT", ["x", "3"]),
        ({"values": np.zeros(2, np.float32)}, "INVALID_ARGUMENT", ["x"]),
        ({"values": np.zeros((1, 2), np.float64), "datatype": "FP64"}, "INVALID_ARGUMENT", ["x", "FP64", "FP32"]),
    ],
    ids=["name", "shape", "rank", "type"],
)
def test_a_wrong_tensor_is_refused_by_name(
    client: triton.InferenceServerClient, model: str, change: dict[str, object], code: str, words: list[str]
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, _inputs(**change))  # type: ignore[arg-type]
    assert caught.value.status() == f"StatusCode.{code}"
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_missing_tensor_is_refused_by_name(client: triton.InferenceServerClient, model: str) -> None:
    with pytest.raises(InferenceServerException, match="x") as caught:
        client.infer(model, [])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_bytes_that_do_not_fit_the_shape_are_refused_by_count(client: triton.InferenceServerClient, model: str) -> None:
    (tensor,) = _inputs()
    tensor._raw_content = tensor._raw_content[:-3]
    with pytest.raises(InferenceServerException, match="13") as caught:
        client.infer(model, [tensor])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "16" in str(caught.value)


def test_an_unknown_model_or_version_is_not_found(client: triton.InferenceServerClient, model: str) -> None:
    for name, version in (("nobody", ""), (model, "99")):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, _inputs(), model_version=version)
        assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_it_streams_and_a_failed_request_leaves_the_stream_open(client: triton.InferenceServerClient, model: str) -> None:
    came: queue.SimpleQueue[tuple[triton.InferResult | None, InferenceServerException | None]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: came.put((result, error)))
    for number in range(50):
        client.async_stream_infer(model, _inputs(ROWS + number), request_id=str(number), enable_empty_final_response=True)
    client.async_stream_infer(model, _inputs(name="no-such-input"), request_id="wrong")
    client.async_stream_infer(model, _inputs(), request_id="last")
    answers = [came.get(timeout=20) for _ in range(52)]
    client.stop_stream()
    for number, (result, error) in enumerate(answers[:50]):
        assert error is None
        assert result is not None
        assert result.as_numpy("y").tolist() == ((ROWS + number) * 2).tolist()
        assert result.get_response().id == str(number)
        assert result.get_response().parameters["triton_final_response"].bool_param
    assert "no-such-input" in str(answers[50][1])
    last = answers[51][0]
    assert last is not None
    assert last.get_response().id == "last"


def test_its_asyncio_client_streams(gateway: Running, model: str) -> None:
    async def stream() -> list[list[list[float]]]:
        async def requests() -> AsyncIterator[dict[str, object]]:
            for number in range(50):
                yield {"model_name": model, "inputs": _inputs(ROWS + number), "request_id": str(number)}

        async with triton_aio.InferenceServerClient(gateway.data) as client:
            return [result.as_numpy("y").tolist() async for result, error in client.stream_infer(requests()) if not error]

    assert asyncio.run(stream()) == [((ROWS + number) * 2).tolist() for number in range(50)]


def test_its_cancelled_stream_is_told_as_cancelled(client: triton.InferenceServerClient, model: str) -> None:
    came: queue.SimpleQueue[InferenceServerException | None] = queue.SimpleQueue()
    client.start_stream(lambda result, error: came.put(error))
    client.async_stream_infer(model, _inputs())
    assert came.get(timeout=20) is None
    client.stop_stream(cancel_requests=True)
    error = came.get(timeout=20)
    assert error is not None
    assert "CANCELLED" in str(error.status())
    assert client.infer(model, _inputs()).as_numpy("y").tolist() == (ROWS * 2).tolist()
