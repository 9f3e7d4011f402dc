"""Tensors in shared memory on the request path: the same answers as without, within bounds, whatever becomes of the object."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper
from plane_models import answer, ask, counted, identity, model, scale, tensor

from gateway.contract.desired import Region
from gateway.protocol.pb import inference_pb2 as pb
from gateway.runtime.shared_object import open_object
from registry.deployment import Batching, Shadow

SIZE = 4096


def path_of(key: str) -> Path:
    return Path("/dev/shm") / key[1:]


class Memory:
    """A plane with one region "r" of SIZE bytes, which starts 64 bytes into its object."""

    def __init__(self, gate: Any, key: str) -> None:
        self.gate, self.key = gate, key
        self.region = Region("r", key, 64, SIZE, open_object(key).identity)
        gate.plane.hold_regions((self.region,))

    def put(self, array: np.ndarray | bytes, offset: int = 0) -> None:
        with path_of(self.key).open("r+b") as file:
            file.seek(64 + offset)
            file.write(array if isinstance(array, bytes) else array.tobytes())

    def get(self, count: int, offset: int = 0, dtype: type = np.float32) -> np.ndarray:
        return np.frombuffer(path_of(self.key).read_bytes(), dtype, count, 64 + offset)

    def shrink(self, size: int) -> None:
        os.truncate(path_of(self.key), size)


@pytest.fixture
def memory(open_gate: Callable[..., Any], make_object: Callable[..., str]) -> Memory:
    return Memory(open_gate("fast", shared_memory=True), make_object(bytes(64 + SIZE + 64)))


def lies(tensor: Any, size: int, offset: int = 0, region: str = "r") -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def asking(
    name: str, shape: list[int], datatype: str = "FP32", *, size: int | None = None, offset: int = 0
) -> pb.ModelInferRequest:
    """A request whose one input lies in the region."""
    request = pb.ModelInferRequest(model_name=name)
    size = int(np.prod(shape)) * 4 if size is None else size
    lies(request.inputs.add(name="x", datatype=datatype, shape=shape), size, offset)
    return request


def refused(gate: Any, request: pb.ModelInferRequest) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        gate.infer(request)
    return caught.value.code().name, caught.value.details()


@pytest.fixture
def doubler(memory: Memory) -> Memory:
    memory.gate.load("m", 1, scale(2))
    memory.gate.route("m", 1)
    return memory


ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_input_and_output_in_shared_memory(doubler: Memory) -> None:
    doubler.put(ROWS, 128)
    request = asking("m", [2, 4], offset=128)
    lies(request.outputs.add(name="y"), 100, 512)
    response = doubler.gate.infer(request)
    assert doubler.get(8, 512).tolist() == (ROWS * 2).reshape(-1).tolist()
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [2, 4])
    assert output.parameters["shared_memory_byte_size"].int64_param == 32
    assert list(response.raw_output_contents) == [b""]
    assert response.parameters["prediction_id"].string_param


def test_input_in_shared_memory_and_output_in_the_message(doubler: Memory) -> None:
    doubler.put(ROWS)
    assert answer(doubler.gate.infer(asking("m", [2, 4]))).tolist() == (ROWS * 2).tolist()


def test_input_in_the_message_and_output_in_shared_memory(doubler: Memory) -> None:
    request = ask("m", ROWS)
    lies(request.outputs.add(name="y"), 32)
    doubler.gate.infer(request)
    assert doubler.get(8).tolist() == (ROWS * 2).reshape(-1).tolist()


def test_some_tensors_in_shared_memory_and_some_in_the_message(memory: Memory) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    names = [tensor(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b", "sum", "difference")]
    memory.gate.load("two", 1, model(nodes, names[:2], names[2:]))
    memory.gate.route("two", 1)
    memory.put(np.array([10, 20], np.float32))
    request = pb.ModelInferRequest(model_name="two", raw_input_contents=[np.array([1, 2], np.float32).tobytes()])
    lies(request.inputs.add(name="a", datatype="FP32", shape=[2]), 8)
    request.inputs.add(name="b", datatype="FP32", shape=[2])
    lies(request.outputs.add(name="sum"), 8, 64)
    request.outputs.add(name="difference")
    for _ in range(3):  # each way in of the decoder
        response = memory.gate.infer(request)
        assert memory.get(2, 64).tolist() == [11, 22]
        assert [np.frombuffer(raw, np.float32).tolist() for raw in response.raw_output_contents] == [[], [9, 18]]


def test_texts_in_shared_memory(memory: Memory) -> None:
    memory.gate.load("texts", 1, identity(TensorProto.STRING, ["n"]))
    memory.gate.route("texts", 1)
    encoded = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in ("ä", "", "word"))
    memory.put(encoded)
    request = asking("texts", [3], "BYTES", size=len(encoded))
    lies(request.outputs.add(name="y"), 200, 1000)
    response = memory.gate.infer(request)
    assert memory.get(len(encoded), 1000, np.uint8).tobytes() == encoded
    assert response.outputs[0].parameters["shared_memory_byte_size"].int64_param == len(encoded)


@pytest.mark.parametrize(
    ("kind", "datatype", "dtype"),
    [
        (TensorProto.BOOL, "BOOL", np.bool_),
        (TensorProto.FLOAT16, "FP16", np.float16),
        (TensorProto.BFLOAT16, "BF16", np.uint16),
    ],
    ids=["bool", "fp16", "bf16"],
)
def test_datatypes_of_other_widths_lie_there_as_they_travel(memory: Memory, kind: int, datatype: str, dtype: type) -> None:
    memory.gate.load("same", 1, identity(kind, ["n"]))
    memory.gate.route("same", 1)
    values = np.array([1, 0, 1], dtype)
    memory.put(values, 32)
    request = asking("same", [3], datatype, size=values.nbytes, offset=32)
    lies(request.outputs.add(name="y"), 64, 256)
    memory.gate.infer(request)
    assert memory.get(3, 256, dtype).tolist() == values.tolist()


def test_typed_contents_beside_shared_memory(memory: Memory) -> None:
    names = [tensor(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b", "sum")]
    memory.gate.load("add", 1, model([helper.make_node("Add", ["a", "b"], ["sum"])], names[:2], names[2:]))
    memory.gate.route("add", 1)
    memory.put(np.array([10, 20], np.float32))
    request = pb.ModelInferRequest(model_name="add")
    request.parameters["binary_data_output"].bool_param = False
    lies(request.inputs.add(name="a", datatype="FP32", shape=[2]), 8)
    request.inputs.add(name="b", datatype="FP32", shape=[2]).contents.fp32_contents.extend([1, 2])
    assert list(memory.gate.infer(request).outputs[0].contents.fp32_contents) == [11, 22]
    lies(request.outputs.add(name="sum"), 8, 64)
    assert not memory.gate.infer(request).outputs[0].HasField("contents")
    assert memory.get(2, 64).tolist() == [11, 22]


@pytest.mark.parametrize("shape", [[0, 4], [1, 4]], ids=str)
def test_the_first_and_the_empty_shape(doubler: Memory, shape: list[int]) -> None:
    request = asking("m", shape)
    lies(request.outputs.add(name="y"), 16)
    assert list(doubler.gate.infer(request).outputs[0].shape) == shape


def test_requests_in_one_batch_get_each_its_own(doubler: Memory) -> None:
    """64 callers at once, each with its own place for input and output: no result is another's."""
    values = np.random.default_rng(0).random((64, 4), np.float32)
    doubler.put(values)

    def call(index: int) -> None:
        request = asking("m", [1, 4], offset=16 * index)
        lies(request.outputs.add(name="y"), 16, 2048 + 16 * index)
        doubler.gate.infer(request)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(call, range(64)))
    assert doubler.get(256, 2048).tolist() == (values * 2).reshape(-1).tolist()


def slow_gate(memory: Memory) -> Callable[[float], pb.ModelInferRequest]:
    """A model in a thread of its own, which is held up by requests with many rounds."""
    memory.gate.load("slow", 1, counted(), batching=Batching(mode="off")).pace.is_inline = False
    memory.gate.route("slow", 1)

    def request(rounds: int) -> pb.ModelInferRequest:
        made = asking("slow", [1, 4])
        made.inputs.add(name="rounds", datatype="INT64", shape=[])
        made.raw_input_contents.append(struct.pack("<q", rounds))
        return made

    return request


def open_files(key: str) -> int:
    links = [
        os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")
    ]
    return sum(link.startswith(str(path_of(key))) for link in links)


def test_a_region_that_is_unregistered_under_a_request_stays_open_until_its_answer(
    memory: Memory, wait_for: Callable[..., object]
) -> None:
    made = slow_gate(memory)
    memory.put(ROWS)
    request = made(200_000)
    lies(request.outputs.add(name="y"), 16, 1024)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(memory.gate.infer, request)
        served = memory.gate.loaded["slow"][1]
        wait_for(lambda: served.in_flight)
        memory.gate.plane.hold_regions(())
        assert open_files(memory.key) == 1
        running.result()
    assert memory.get(4, 1024).tolist() == ROWS[0].tolist()
    wait_for(lambda: open_files(memory.key) == 0)
    assert refused(memory.gate, request)[0] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {"offset": SIZE - 16},
            "INVALID_ARGUMENT",
            f"input 'x': bytes {SIZE - 16} to {SIZE + 16} are outside region 'r' of {SIZE}",
        ),
        ({"offset": 2**63 - 1}, "INVALID_ARGUMENT", "outside region 'r'"),
        ({"size": 31}, "INVALID_ARGUMENT", "input 'x': FP32 [2, 4] is 32 bytes, got 31"),
        ({"size": 33}, "INVALID_ARGUMENT", "is 32 bytes, got 33"),
        ({"region": "nobody"}, "NOT_FOUND", "'nobody': not registered"),
    ],
    ids=["end", "overflow", "short", "long", "unknown"],
)
def test_an_input_outside_its_bounds_is_refused(doubler: Memory, change: dict[str, Any], code: str, words: str) -> None:
    request = asking("m", [2, 4])
    lies(request.inputs[0], **({"size": 32} | change))
    got = refused(doubler.gate, request)
    assert got[0] == code
    assert words in got[1]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"offset": SIZE - 16}, "INVALID_ARGUMENT", "output 'y': bytes"),
        ({"size": 31}, "INVALID_ARGUMENT", "output 'y': needs 32 bytes, 31 are given in region 'r'"),
        ({"region": "nobody"}, "NOT_FOUND", "'nobody': not registered"),
    ],
    ids=["end", "short", "unknown"],
)
def test_an_output_without_room_is_refused(
    doubler: Memory, change: dict[str, Any], code: str, words: str, wait_for: Callable[..., object]
) -> None:
    request = ask("m", ROWS)
    lies(request.outputs.add(name="y"), **({"size": 32} | change))
    got = refused(doubler.gate, request)
    assert got[0] == code
    assert words in got[1]
    assert not doubler.get(SIZE // 4).any()
    wait_for(lambda: not doubler.gate.loaded["m"][1].in_flight)


def test_an_output_without_room_fails_its_own_request_alone(memory: Memory, wait_for: Callable[..., object]) -> None:
    """Requests that wait behind a running one share the next batch: one of them has no room for its output."""
    served = memory.gate.load("m", 1, scale(2))
    served.pace.is_inline = False
    entered, gate = threading.Event(), threading.Event()
    run = served.session.run

    def held_up(*args: Any) -> Any:
        entered.set()
        gate.wait(10)
        return run(*args)

    served.session.run = held_up  # type: ignore[method-assign]
    memory.gate.route("m", 1)

    def call(index: int) -> str:
        request = ask("m", ROWS[:1] + index)
        lies(request.outputs.add(name="y"), 8 if index == 2 else 16, 16 * index)
        try:
            memory.gate.infer(request)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(call, 0)
        assert entered.wait(10)
        others = [pool.submit(call, index) for index in range(1, 5)]
        wait_for(lambda: served.in_flight == 5)
        gate.set()
        assert [one.result() for one in (first, *others)] == ["OK", "OK", "INVALID_ARGUMENT", "OK", "OK"]
    for index in (0, 1, 3, 4):
        assert memory.get(4, 16 * index).tolist() == ((ROWS[0] + index) * 2).tolist()
    assert memory.get(4, 32).tolist() == [0, 0, 0, 0]


def test_an_object_that_shrinks_is_told_and_kills_nothing(doubler: Memory) -> None:
    doubler.put(ROWS)
    doubler.shrink(64 + 20)
    code, text = refused(doubler.gate, asking("m", [2, 4]))
    assert code == "INVALID_ARGUMENT"
    assert "input 'x': 20 bytes are left at 0 of region 'r', expected 32" in text
    request = ask("m", ROWS)
    lies(request.outputs.add(name="y"), 32)
    code, text = refused(doubler.gate, request)
    assert (code, "output 'y': 20 bytes are left" in text) == ("INVALID_ARGUMENT", True)
    assert path_of(doubler.key).stat().st_size == 84  # nothing made it grow again
    assert answer(doubler.gate.infer(ask("m", ROWS))).tolist() == (ROWS * 2).tolist()


def test_an_object_that_was_replaced_is_not_used(doubler: Memory) -> None:
    path_of(doubler.key).unlink()
    path_of(doubler.key).write_bytes(bytes(SIZE * 2))
    doubler.gate.plane.hold_regions(())
    doubler.gate.plane.hold_regions((doubler.region,))
    code, text = refused(doubler.gate, asking("m", [2, 4]))
    assert (code, "another object than the one registered" in text) == ("INVALID_ARGUMENT", True)


def test_shared_memory_is_refused_where_it_is_off(open_gate: Callable[..., Any]) -> None:
    gate = open_gate("fast")
    gate.load("m", 1, scale(2))
    gate.route("m", 1)
    gate.plane.hold_regions((Region("r", "/any", 0, SIZE, ""),))
    code, text = refused(gate, asking("m", [2, 4]))
    assert (code, "--shared-memory" in text) == ("PERMISSION_DENIED", True)


@pytest.mark.parametrize("requests", [1, 4])
def test_the_shadow_sees_what_the_primary_saw(memory: Memory, wait_for: Callable[..., object], requests: int) -> None:
    """Although the region holds other numbers as soon as the primary has answered."""
    memory.gate.load("m", 1, scale(2), is_class=False)
    memory.gate.load("m", 2, scale(2), is_class=False)
    memory.gate.route("m", 1, shadow=Shadow(2, 100))
    counts = memory.gate.plane.counters.shadow("m", 1, 2)
    memory.put(ROWS)
    request = asking("m", [2, 4])
    lies(request.outputs.add(name="y"), 32)  # over its own input
    with ThreadPoolExecutor(requests) as pool:
        list(pool.map(memory.gate.infer, [request] * requests))
    wait_for(lambda: counts.compared == requests)
    assert (counts.disagreed, counts.failed, counts.dropped) == (0, 0, 0)
    memory.gate.plane.hold_regions(())
    wait_for(lambda: open_files(memory.key) == 0)  # the last copy, which the shadow's thread still has, keeps nothing open
