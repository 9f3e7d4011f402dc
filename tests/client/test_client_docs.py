"""The examples of docs/client.md run as they stand, one after the other: against the fake gateway and against a real one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gateway.cli import main
from gateway.client import AdminClient, Client
from gateway.demo.process import GatewayProcess

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def digits_model():
    """The page's `digits`: label and probabilities of 64 pixels; linear, with weights that favour a digit for its pixels."""
    weights = np.eye(64, 10, dtype=np.float32).tobytes()
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["image", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=-1, keepdims=0),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        initializer=[helper.make_tensor("w", TensorProto.FLOAT, [64, 10], weights, raw=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(digits_model(), "digits.onnx")
    return tmp_path


def run_examples(data_address, admin_address):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(block.replace("127.0.0.1:8001", data_address).replace("127.0.0.1:9001", admin_address), names)


def test_the_examples_of_the_clients_page_run(gateway, folder, capsys):
    run_examples(gateway.address, gateway.address)
    assert "['JOINED', 'JOINED']" in capsys.readouterr().out


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with GatewayProcess(tmp_path_factory.mktemp("home"), workers=1) as process:
        yield process.addresses


def test_the_examples_run_against_a_real_gateway(real, folder):
    with AdminClient(real.admin) as admin:
        admin.register("digits", "digits.onnx").result()
        admin.deploy("digits", 1).result()
    run_examples(real.data, real.admin)


def test_the_command_line_drives_a_real_gateway(real, folder, monkeypatch, capsys):
    monkeypatch.setenv("INTERLOCK_ADMIN", real.admin)
    np.save("one.npy", np.eye(1, 64, 3))
    for arguments in (
        "register numbers digits.onnx --alias champion --tag a=b",
        "register numbers . --prediction probabilities:scores --reason again",
        "validate digits.onnx",
        "deploy numbers champion",
        "split numbers 1=70 2=30",
        "shadow numbers 2 --percent 50",
        "shadow numbers --off",
        "promote numbers 2",
        "rollback numbers",
        "alias numbers challenger 2",
        "alias numbers challenger --delete",
        "configure numbers --batching off --max-rows 8 --queue-delay-us 5 --rollback-window 10m",
        "models",
        "versions numbers",
        "status numbers",
        "history numbers",
        "audit numbers",
        "operations",
        "quality numbers --window 1h --confusion",
        "predict numbers --input one.npy --unit-id u",
        "feedback --inference-id nobody --label 3",
        "undeploy numbers --reason done",
    ):
        code = main(arguments.split())
        assert (code, "error" in capsys.readouterr().err) == (0, False), arguments


def test_every_datatype_that_numpy_has_comes_back_from_a_real_gateway(real, folder):
    """A model that hands its inputs on: what the client encodes is what ONNX Runtime sees."""
    kinds = {
        "BOOL": [True, False],
        "UINT8": [0, 255],
        "INT8": [-128, 127],
        "UINT16": [0, 65535],
        "INT16": [-32768, 32767],
        "UINT32": [0, 2**32 - 1],
        "INT32": [-(2**31), 2**31 - 1],
        "UINT64": [0, 2**64 - 1],
        "INT64": [-(2**63), 2**63 - 1],
        "FLOAT16": [0.5, -65504],
        "FLOAT": [1e-38, np.inf],
        "DOUBLE": [1e-300, -0.0],
        "STRING": ["漢", ""],
    }
    types = {name: getattr(TensorProto, name) for name in kinds}
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in kinds],
        "g",
        [helper.make_tensor_value_info(f"in_{name}", kind, ["n"]) for name, kind in types.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, ["n"]) for name, kind in types.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), "all.onnx")
    inputs = {f"in_{name}": np.array(values, helper.tensor_dtype_to_np_dtype(types[name])) for name, values in kinds.items()}
    with AdminClient(real.admin) as admin, Client(real.data) as client:
        admin.register("all", "all.onnx").result()
        admin.deploy("all", 1).result()
        answer = client.infer("all", inputs)
    for name in kinds:
        sent, back = inputs[f"in_{name}"], answer[f"out_{name}"]
        if name == "STRING":
            assert [element.decode() for element in back] == sent.tolist()
        else:
            assert (back.dtype, back.tobytes()) == (sent.dtype, sent.tobytes())
