"""What every session keeps to: the one in this process, and the one in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from layout_models import saved
from onnx import TensorProto, helper

from gateway.runtime.halt import Halt
from gateway.runtime.isolated.child_process import ModelToRun
from gateway.runtime.isolated.isolated_session import IsolatedSession
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.session import InputsRefused, LoadRefused, RunFailed, RunStopped, Session

Open = Callable[[Path], Session]
KINDS = {
    "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16,
    "INT8": TensorProto.INT8, "UINT8": TensorProto.UINT8, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL, "BYTES": TensorProto.STRING,
}  # fmt: skip
VALUES = {"BOOL": [True, False, True], "BYTES": ["a", "", "grün"]}
DTYPES = {"FP16": np.float16, "BF16": np.uint16, "FP64": np.float64, "BYTES": np.object_, "BOOL": np.bool_}


@pytest.fixture(params=["in this process", "isolated"])
def open_session(request: pytest.FixtureRequest) -> Iterator[Open]:
    opened: list[Session] = []
    with ThreadPoolExecutor(1) as spawner:

        def make(path: Path) -> Session:
            is_isolated = request.param == "isolated"
            opened.append(IsolatedSession(ModelToRun(path), spawner) if is_isolated else OnnxSession(path))
            return opened[-1]

        yield make
        for session in opened:
            session.close()


def _identity(folder: Path, kind: int = TensorProto.FLOAT) -> Path:
    ends = [helper.make_tensor_value_info(name, kind, ["n"]) for name in ("x", "y")]
    return saved([helper.make_node("Identity", ["x"], ["y"])], ends[:1], ends[1:], [], folder / "m.onnx")


def _endless(folder: Path) -> Path:
    """Adds 1 to ``x`` for ever: what stops it is a deadline, or a halt."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Add", ["v_in", "one"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_in", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, ["n"]),
        ],
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    weights = [helper.make_tensor("go", TensorProto.BOOL, [], [True]), helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])]
    return saved([helper.make_node("Loop", ["", "go", "x"], ["y"], body=body)], ends[:1], ends[1:], weights, folder / "m.onnx")


@pytest.mark.parametrize("datatype", KINDS)
def test_tensors_of_every_datatype_go_in_and_come_out(open_session: Open, tmp_path: Path, datatype: str) -> None:
    session = open_session(_identity(tmp_path, KINDS[datatype]))
    x = np.array(VALUES.get(datatype, [1, 2, 3]), DTYPES.get(datatype, helper.tensor_dtype_to_np_dtype(KINDS[datatype])))
    (y,) = session.run(["y"], {"x": x})
    assert (y.tolist(), y.dtype) == (x.tolist(), x.dtype)


def test_the_signature_is_the_model_s(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_identity(tmp_path))
    assert [(spec.name, spec.datatype, spec.shape) for spec in session.signature.inputs] == [("x", "FP32", (-1,))]


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_tensors_of_any_size_go_in_and_come_out(open_session: Open, tmp_path: Path, size: int) -> None:
    session = open_session(_identity(tmp_path))
    for count in (size, 3):
        x = np.arange(count, dtype=np.float32)
        assert np.array_equal(session.run(["y"], {"x": x})[0], x)


def test_an_answer_stays_when_the_next_run_comes(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_identity(tmp_path))
    (first,) = session.run(["y"], {"x": np.ones(3, np.float32)})
    session.run(["y"], {"x": np.zeros(3, np.float32)})
    assert first.tolist() == [1.0, 1.0, 1.0]


def test_inputs_that_are_not_contiguous_are_read_as_they_are(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_identity(tmp_path))
    x = np.arange(6, dtype=np.float32)[::2]
    assert session.run(["y"], {"x": x})[0].tolist() == [0.0, 2.0, 4.0]


def test_inputs_that_the_runtime_refuses_are_the_caller_s_mistake(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_identity(tmp_path))
    with pytest.raises(InputsRefused):
        session.run(["y"], {"x": np.ones((2, 2), np.float32)})
    assert session.run(["y"], {"x": np.ones(1, np.float32)})[0].tolist() == [1.0]


def test_a_run_stops_at_its_deadline(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_endless(tmp_path))
    with pytest.raises(RunStopped):
        session.run(["y"], {"x": np.zeros(1, np.float32)}, time.monotonic() + 0.2)


def test_a_run_whose_deadline_has_passed_is_stopped(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_endless(tmp_path))
    with pytest.raises(RunStopped):
        session.run(["y"], {"x": np.zeros(1, np.float32)}, time.monotonic() - 1)


@pytest.mark.parametrize("is_early", [True, False])
def test_a_run_stops_when_another_thread_halts_it(open_session: Open, tmp_path: Path, is_early: bool) -> None:
    session, halt = open_session(_endless(tmp_path)), Halt()
    if is_early:
        halt.now()
    else:
        threading.Timer(0.2, halt.now).start()
    with pytest.raises(RunStopped):
        session.run(["y"], {"x": np.zeros(1, np.float32)}, None, halt)


def test_a_halt_after_the_run_stops_no_later_run(open_session: Open, tmp_path: Path) -> None:
    session, halt = open_session(_identity(tmp_path)), Halt()
    x = np.ones(1, np.float32)
    session.run(["y"], {"x": x}, None, halt)
    halt.now()
    assert session.run(["y"], {"x": x}, time.monotonic() + 60, Halt())[0].tolist() == [1.0]


def test_threads_may_run_it_at_once(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_identity(tmp_path))
    inputs = [np.full(100, value, np.float32) for value in range(40)]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda x: session.run(["y"], {"x": x})[0], inputs))
    assert all(np.array_equal(x, y) for x, y in zip(inputs, outputs, strict=True))


def test_a_file_that_is_no_model_is_refused(open_session: Open, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(LoadRefused):
        open_session(path)


def test_an_output_that_the_model_does_not_have_fails_the_run(open_session: Open, tmp_path: Path) -> None:
    session = open_session(_identity(tmp_path))
    with pytest.raises(RunFailed):
        session.run(["z"], {"x": np.ones(1, np.float32)})
