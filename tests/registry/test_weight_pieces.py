"""A model whose large factors are cut answers as it did, and what cannot be cut stays whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gateway.runtime.onnx import OnnxSession
from registry.serving_layout import MODEL_FILE, PIECE_BYTES, rewrite
from registry.weight_pieces import cut_factors

INNER, ROWS = 24, 5
random = np.random.default_rng(3)


def floats(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)


def model(
    nodes: list, weights: list, *, outputs: tuple[str, ...] = ("y",), opset: int = 17, inputs: tuple = ()
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INNER])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["a", "b"]) for name in outputs]
    graph = helper.make_graph(nodes, "g", [x, *inputs], ends, weights)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def answers(made: onnx.ModelProto, folder: Path) -> list[np.ndarray]:
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    x = np.random.default_rng(1).standard_normal((ROWS, INNER)).astype(np.float32)
    session = OnnxSession(path)
    return session.run([one.name for one in session.signature.outputs], {"x": x})


def cut(made: onnx.ModelProto, piece_bytes: int) -> tuple[int, onnx.ModelProto]:
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    count = cut_factors(copy, piece_bytes, lambda tensor: tensor.raw_data)
    if count:
        onnx.checker.check_model(copy)
    return count, copy


def largest(made: onnx.ModelProto) -> int:
    return max((len(tensor.raw_data) for tensor in made.graph.initializer), default=0)


@settings(max_examples=60, deadline=None)
@given(
    columns=st.integers(2, 300),
    piece_columns=st.integers(1, 200),
    kind=st.sampled_from(["MatMul", "Gemm", "FusedGemm"]),
    is_transposed=st.booleans(),
    summand=st.sampled_from([None, (), (1,), ("N",), (1, "N"), (ROWS, "N"), (ROWS, 1)]),
    is_shared=st.booleans(),
)
def test_a_cut_product_is_the_same_product(
    tmp_path_factory: pytest.TempPathFactory,
    columns: int,
    piece_columns: int,
    kind: str,
    is_transposed: bool,
    summand: tuple | None,
    is_shared: bool,
) -> None:
    is_transposed = is_transposed and kind != "MatMul"
    weights = [floats("w", columns, INNER) if is_transposed else floats("w", INNER, columns)]
    inputs, attributes = ["x", "w"], {}
    if kind != "MatMul":
        attributes = {"transB": int(is_transposed), "alpha": 0.5, "beta": 2.0}
        if summand is not None:
            weights.append(floats("c", *(columns if side == "N" else side for side in summand)))
            inputs.append("c")
    if kind == "FusedGemm":
        attributes["activation"] = "Relu"
    domain = "com.microsoft" if kind == "FusedGemm" else ""
    nodes = [helper.make_node(kind, inputs, ["y"], domain=domain, **attributes)]
    if is_shared:
        nodes.append(helper.make_node(kind, ["half", *inputs[1:]], ["z"], domain=domain, **attributes))
        nodes.insert(0, helper.make_node("Mul", ["x", "x"], ["half"]))
    made = model(nodes, weights, outputs=("y", "z") if is_shared else ("y",))
    piece_bytes = 4 * INNER * piece_columns
    count, pieces = cut(made, piece_bytes)
    assert count == (columns > piece_columns)
    assert largest(pieces) <= max(piece_bytes, 4 * ROWS * columns if summand else 0)
    folder = tmp_path_factory.mktemp("cut")
    for before, after in zip(answers(made, folder), answers(pieces, folder), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_a_summand_is_cut_as_each_of_its_products_needs_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "wide", "c"], ["p"]),
        helper.make_node("Slice", ["x", "zero", "four", "one"], ["q"]),
        helper.make_node("Gemm", ["q", "narrow", "c"], ["r"]),
        helper.make_node("Add", ["p", "r"], ["y"]),
    ]
    numbers = [numpy_helper.from_array(np.array([value]), name) for name, value in (("zero", 0), ("four", 4), ("one", 1))]
    made = model(nodes, [floats("wide", INNER, 90), floats("narrow", 4, 90), floats("c", 90), *numbers])
    count, pieces = cut(made, 4 * INNER * 10)
    assert count == 2
    for before, after in zip(answers(made, tmp_path), answers(pieces, tmp_path), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def product(factor: str, result: str, left: str = "x") -> onnx.NodeProto:
    return helper.make_node("MatMul", [left, factor], [result])


BRANCH = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["b"])],
    "b",
    [],
    [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["a", "b"])],
    [],
)
W = floats("w", INNER, INNER)
WHOLE = {
    "used for something else too": model([product("w", "p"), helper.make_node("Add", ["p", "w"], ["y"])], [W]),
    "the left factor": model([helper.make_node("MatMul", ["w", "x"], ["y"])], [W]),
    "both factors": model([helper.make_node("MatMul", ["w", "w"], ["p"]), helper.make_node("Add", ["x", "p"], ["y"])], [W]),
    "an output": model([product("w", "y")], [W], outputs=("y", "w")),
    "what callers may replace": model(
        [product("w", "y")], [W], inputs=(helper.make_tensor_value_info("w", TensorProto.FLOAT, [INNER, INNER]),)
    ),
    "a branch uses it": model(
        [product("w", "p"), helper.make_node("If", ["yes"], ["y"], then_branch=BRANCH, else_branch=BRANCH)],
        [W, numpy_helper.from_array(np.array(True), "yes")],
        outputs=("y", "p"),
    ),
    "a summand that is computed": model(
        [helper.make_node("ReduceSum", ["x"], ["s"]), helper.make_node("Gemm", ["x", "w", "s"], ["y"])], [W]
    ),
    "a summand that callers may replace": model(
        [helper.make_node("Gemm", ["x", "w", "c"], ["y"])],
        [W, floats("c", INNER)],
        inputs=(helper.make_tensor_value_info("c", TensorProto.FLOAT, [INNER]),),
    ),
    "once this way, once the other": model(
        [helper.make_node("Gemm", ["x", "w"], ["p"], transB=1), product("w", "y", "p")], [W]
    ),
    "more than two axes": model([product("w", "y")], [floats("w", 2, INNER, INNER)]),
    "an old Concat": model([product("w", "y")], [W], opset=9),
}


@pytest.mark.parametrize("made", WHOLE.values(), ids=WHOLE.keys())
def test_what_cannot_be_cut_stays_whole(made: onnx.ModelProto) -> None:
    count, same = cut(made, 64)
    assert (count, same) == (0, made)


def test_a_layout_in_pieces_has_no_large_weight_and_one_without_products_is_none(tmp_path: Path) -> None:
    for name, node in (("product", product("w", "y")), ("sum", helper.make_node("Add", ["x", "w"], ["y"]))):
        (tmp_path / name).mkdir()
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model([node], [floats("w", INNER, 60_000)]).SerializeToString())
        blobs = rewrite(path, tmp_path / name, is_cut=True)
        assert bool(blobs) == (name == "product")
        assert (tmp_path / name / MODEL_FILE).exists() == bool(blobs)
        assert all((tmp_path / name / blob).stat().st_size <= PIECE_BYTES for blob in blobs)
