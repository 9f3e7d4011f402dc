"""Models whose rows are independent, of the kinds that exporters write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mixing_models import Model, graph_model, info, ok, simple, weight
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) / 4).astype(np.float32)


def perceptron() -> Model:
    nodes = [ok("Gemm", "x w b", "h", transB=1), ok("Relu", "h", "r"), ok("Gemm", "r v", "s"), ok("Softmax", "s", "y", axis=1)]
    return simple(nodes, [weight("w", _random(8, 4)), weight("b", _random(8)), weight("v", _random(8, 4))])


def convolutions() -> Model:
    """Convolution, batch norm, pooling, resize by scales, global pooling, flatten."""
    nodes = [
        ok("Conv", "x k", "c", pads=[1, 1, 1, 1]),
        ok("BatchNormalization", "c s b m v", "n"),
        ok("Relu", "n", "r"),
        ok("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
        ok("Resize", "p roi scales", "u", mode="nearest"),
        ok("AveragePool", "u", "a", kernel_shape=[2, 2]),
        ok("GlobalAveragePool", "a", "g"),
        ok("Flatten", "g", "f"),
        ok("Gemm", "f w", "y"),
    ]
    weights = [weight("k", _random(6, 3, 3, 3)), weight("roi", []), weight("scales", [1, 1, 2, 2]), weight("w", _random(6, 4))]
    weights += [weight(name, np.ones(6)) for name in "sbmv"]
    return simple(nodes, weights, x=(T.FLOAT, ["n", 3, "height", "width"]))


def resize_by_sizes() -> Model:
    """The new size computed from the shape, with the number of rows in it, as PyTorch writes it."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Slice", "s zero two", "head"),
        ok("Slice", "s two four", "tail"),
        ok("Mul", "tail twice", "larger"),
        ok("Concat", "head larger", "sizes", axis=0),
        ok("Resize", "x roi none sizes", "y", mode="linear"),
    ]
    weights = [weight(n, [v], np.int64) for n, v in {"zero": 0, "two": 2, "four": 4, "twice": 2}.items()]
    weights += [weight("roi", []), weight("none", [])]
    image = (T.FLOAT, ["n", 3, "h", "w"])
    return simple(nodes, weights, x=image, y=image)


def recurrent(operator: str, gates: int) -> Model:
    """Sequences [n, steps, 4] with the batch on axis 1 inside, and zeros for the first state, as many as there are rows."""
    nodes = [
        ok("Transpose", "x", "t", perm=[1, 0, 2]),
        ok("Shape", "x", "s"),
        ok("Gather", "s zero", "n", axis=0),
        ok("Unsqueeze", "n first", "n1"),
        ok("Concat", "one n1 five", "state", axis=0),
        ok("ConstantOfShape", "state", "h0"),
        h.make_node(operator, ["t", "w", "r", "", "", "h0"], ["steps", "last"], hidden_size=5),
        ok("Squeeze", "last first", "y"),
    ]
    weights = [weight("w", _random(1, 5 * gates, 4)), weight("r", _random(1, 5 * gates, 5))]
    weights += [weight("zero", 0, np.int64)]
    weights += [weight(name, [value], np.int64) for name, value in {"first": 0, "one": 1, "five": 5}.items()]
    return simple(nodes, weights, x=(T.FLOAT, ["n", "steps", 4]), y=(T.FLOAT, ["n", 5]))


def attention() -> Model:
    """Self-attention with two heads, its shapes computed through Shape, Gather, Concat, Reshape."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Gather", "s i0", "n", axis=0),
        ok("Gather", "s i1", "length", axis=0),
        ok("Unsqueeze", "n a0", "n1"),
        ok("Unsqueeze", "length a0", "length1"),
        ok("Concat", "n1 length1 two four", "split", axis=0),
        ok("Concat", "n1 length1 eight", "joined", axis=0),
    ]
    for name in "qkv":
        nodes += [
            ok("MatMul", f"x w{name}", f"{name}1"),
            ok("Reshape", f"{name}1 split", f"{name}2"),
            ok("Transpose", f"{name}2", name, perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        ok("MatMul", "q k", "scores"),
        ok("Mul", "scores scale", "scaled"),
        ok("Softmax", "scaled", "a", axis=-1),
        ok("MatMul", "a v", "o"),
        ok("Transpose", "o", "ot", perm=[0, 2, 1, 3]),
        ok("Reshape", "ot joined", "oj"),
        ok("Add", "oj x", "sum"),
        ok("LayerNormalization", "sum g b", "y", axis=-1),
    ]
    weights = [weight(f"w{name}", _random(8, 8, seed=at)) for at, name in enumerate("qkv")]
    weights += [weight("i0", 0, np.int64), weight("i1", 1, np.int64), weight("scale", 0.5)]
    weights += [weight(n, [v], np.int64) for n, v in {"a0": 0, "two": 2, "four": 4, "eight": 8}.items()]
    weights += [weight("g", np.ones(8)), weight("b", np.zeros(8))]
    tokens = (T.FLOAT, ["n", "length", 8])
    return simple(nodes, weights, x=tokens, y=tokens)


def merged_heads() -> Model:
    """Heads merged into the batch axis and taken out again: [n, s, 8] → [2n, s, 4] → [n, s, 8]."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Slice", "s zero one", "n1"),
        ok("Slice", "s one two", "l1"),
        ok("Concat", "n1 l1 two four", "split", axis=0),
        ok("Mul", "n1 two", "n2"),
        ok("Concat", "n2 l1 four", "merged", axis=0),
        ok("Concat", "n1 two l1 four", "apart", axis=0),
        ok("Reshape", "x split", "a"),
        ok("Transpose", "a", "b", perm=[0, 2, 1, 3]),
        ok("Reshape", "b merged", "c"),
        ok("Transpose", "c", "ct", perm=[0, 2, 1]),
        ok("MatMul", "c ct", "g"),
        ok("Softmax", "g", "p", axis=2),
        ok("MatMul", "p c", "d"),
        ok("Reshape", "d apart", "e"),
        ok("Transpose", "e", "f", perm=[0, 2, 1, 3]),
        ok("Reshape", "f shape", "y"),
    ]
    weights = [weight(n, [v], np.int64) for n, v in {"zero": 0, "one": 1, "two": 2, "four": 4}.items()]
    weights += [weight("shape", [0, 0, -1], np.int64)]
    tokens = (T.FLOAT, ["n", "length", 8])
    return simple(nodes, weights, x=tokens, y=tokens)


def class_token() -> Model:
    """A learnt token before each sequence, expanded to the number of rows, and read at the end."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Slice", "s zero one", "n1"),
        ok("Concat", "n1 minus minus", "wanted", axis=0),
        ok("Equal", "wanted minus3", "free"),
        ok("Where", "free ones wanted", "shape"),
        ok("Expand", "token shape", "tokens"),
        ok("Concat", "tokens x", "all", axis=1),
        ok("Gather", "all first", "y", axis=1),
    ]
    weights = [weight(n, [v], np.int64) for n, v in {"zero": 0, "one": 1, "minus": -1}.items()]
    weights += [weight("minus3", [-1, -1, -1], np.int64), weight("ones", [1, 1, 1], np.int64)]
    weights += [weight("token", _random(1, 1, 4)), weight("first", 0, np.int64)]
    return simple(nodes, weights, x=(T.FLOAT, ["n", "length", 4]))


def embedding() -> Model:
    """Two tables, one by token and one by position, summed and averaged."""
    nodes = [
        ok("Gather", "table x", "e", axis=0),
        ok("Shape", "x", "s"),
        ok("Gather", "s i1", "length", axis=0),
        ok("Range", "i0 length i1", "places"),
        ok("Gather", "positions places", "p", axis=0),
        ok("Unsqueeze", "p a0", "pu"),
        ok("Add", "e pu", "sum"),
        ok("ReduceMean", "sum a1", "y", keepdims=0),
    ]
    weights = [weight("table", _random(20, 4)), weight("positions", _random(64, 4)), weight("i0", 0, np.int64)]
    weights += [weight("i1", 1, np.int64), weight("a0", [0], np.int64), weight("a1", [1], np.int64)]
    return simple(nodes, weights, x=(T.INT64, ["n", "length"]))


def norms() -> Model:
    nodes = [
        ok("GroupNormalization", "x g b", "a", num_groups=2),
        ok("InstanceNormalization", "a g b", "c"),
        ok("LRN", "c", "d", size=3),
        ok("LpNormalization", "d", "y", axis=1),
    ]
    image = (T.FLOAT, ["n", 4, 5, 5])
    return simple(nodes, [weight("g", np.ones(4)), weight("b", np.zeros(4))], x=image, y=image)


def quantized_pairs() -> Model:
    """Static quantization as QuantizeLinear and DequantizeLinear around a product."""
    nodes = [
        ok("QuantizeLinear", "x sx zx", "q"),
        ok("DequantizeLinear", "q sx zx", "d"),
        ok("DequantizeLinear", "w sw zw", "dw", axis=1),
        ok("MatMul", "d dw", "m"),
        ok("QuantizeLinear", "m sx zx", "mq"),
        ok("DequantizeLinear", "mq sx zx", "y"),
    ]
    weights = [weight("sx", 0.05), weight("zx", 128, np.uint8), weight("sw", np.full(4, 0.01))]
    weights += [weight("zw", np.zeros(4), np.int8)]
    weights += [weight("w", np.random.default_rng(0).integers(-99, 99, (4, 4)), np.int8)]
    return simple(nodes, weights)


def quantized_operators() -> Model:
    nodes = [
        ok("QuantizeLinear", "x sx zx", "q"),
        ok("QLinearMatMul", "q sx zx w sw zw sx zx", "m"),
        h.make_node("QLinearAdd", "m sx zx q sx zx sx zx".split(), ["a"], domain="com.microsoft"),
        ok("DequantizeLinear", "a sx zx", "y"),
    ]
    weights = [weight("sx", 0.05), weight("zx", 128, np.uint8), weight("sw", 0.01), weight("zw", 0, np.int8)]
    weights += [weight("w", np.random.default_rng(0).integers(-99, 99, (4, 4)), np.int8)]
    return simple(nodes, weights, domains=[("com.microsoft", 1)])


def microsoft() -> Model:
    """Operators of ONNX Runtime's own that its optimizer writes."""
    domain = {"domain": "com.microsoft"}
    nodes = [
        h.make_node("FusedMatMul", ["x", "w"], ["a"], transB=1, **domain),
        h.make_node("BiasGelu", ["a", "b"], ["c"], **domain),
        h.make_node("SkipLayerNormalization", ["c3", "x3", "g"], ["d"], **domain),
        h.make_node("QuickGelu", ["d"], ["e"], **domain),
        ok("Squeeze", "e one", "y"),
    ]
    nodes[2:2] = [ok("Unsqueeze", "c one", "c3"), ok("Unsqueeze", "x one", "x3")]
    weights = [weight("w", _random(4, 4)), weight("b", _random(4)), weight("g", np.ones(4)), weight("one", [1], np.int64)]
    return simple(nodes, weights, domains=[("com.microsoft", 1)])


def function() -> Model:
    body = [h.make_node("Sigmoid", ["a"], ["s"]), h.make_node("Mul", ["a", "s"], ["b"])]
    own = h.make_function("own", "Silu", ["a"], ["b"], body, [h.make_opsetid("", 21)])
    return simple([h.make_node("Silu", ["x"], ["y"], domain="own")], functions=[own], domains=[("own", 1)])


def scan_over_rows() -> Model:
    """A body that sees one row a turn and sorts it out among its own values."""
    body = h.make_graph(
        [
            h.make_node("Identity", ["c"], ["c2"]),
            h.make_node("ReduceMax", ["row"], ["m"], keepdims=1),
            h.make_node("Sub", ["row", "m"], ["out"]),
        ],
        "body",
        [info("c", T.FLOAT, [1]), info("row", T.FLOAT, [4])],
        [info("c2", T.FLOAT, [1]), info("out", T.FLOAT, [4])],
    )
    return simple([ok("Scan", "start x", "end y", body=body, num_scan_inputs=1)], [weight("start", [0])])


def repeated_steps() -> Model:
    """Three turns of a loop, each a step on every row."""
    body = h.make_graph(
        [ok("MatMul", "v w", "m"), ok("Tanh", "m", "v2"), ok("ReduceMax", "v2", "s", axes=[1]), ok("Identity", "c", "c2")],
        "body",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("v", T.FLOAT, ["n", 4])],
        [info("c2", T.BOOL, []), info("v2", T.FLOAT, ["n", 4]), info("s", T.FLOAT, ["n", 1])],
    )
    nodes = [ok("Loop", "turns go x", "last steps", body=body), ok("ReduceSum", "steps", "sum", axes=[0], keepdims=0)]
    nodes.append(ok("Add", "last sum", "y"))
    weights = [weight("turns", 3, np.int64), weight("go", True, np.bool_), weight("w", _random(4, 4))]
    return simple(nodes, weights, opset=12)


def branch_by_length() -> Model:
    """A branch taken by the length of the rows, not by their number."""
    then = h.make_graph([h.make_node("Neg", ["x"], ["a"])], "then", [], [info("a", T.FLOAT, ["n", "k"])])
    other = h.make_graph([h.make_node("Abs", ["x"], ["b"])], "other", [], [info("b", T.FLOAT, ["n", "k"])])
    nodes = [
        ok("Shape", "x", "s"),
        ok("Gather", "s one", "k", axis=0),
        ok("Equal", "k four", "c"),
        ok("If", "c", "y", then_branch=then, else_branch=other),
    ]
    free = (T.FLOAT, ["n", "k"])
    return simple(nodes, [weight("one", 1, np.int64), weight("four", 4, np.int64)], x=free, y=free)


def pieces() -> Model:
    """Split, pad, slice, tile, concat, top-k, one-hot: all along the features."""
    nodes = [
        ok("Split", "x", "a b", axis=1, num_outputs=2),
        ok("Pad", "a pads", "p"),
        ok("Slice", "p start end axis", "c"),
        ok("Tile", "b repeats", "t"),
        ok("Concat", "c t", "j", axis=1),
        ok("TopK", "j k", "v i", axis=1),
        ok("OneHot", "i depth values", "o"),
        ok("ReduceSum", "o axis", "r", keepdims=0),
        ok("MatMul", "r w", "m"),
        ok("GatherElements", "m i", "y", axis=1),
    ]
    integers = {"pads": [0, 1, 0, 1], "start": [1], "end": [2**31 - 1], "axis": [1], "repeats": [1, 2], "k": [4]}
    weights = [weight(name, values, np.int64) for name, values in integers.items()]
    weights += [weight("depth", 7, np.int64), weight("values", [0, 1]), weight("w", _random(7, 7))]
    return simple(nodes, weights)


def einsum() -> Model:
    return simple([ok("Einsum", "x w", "y", equation="ni,ij->nj")], [weight("w", _random(4, 4))])


def old_operator_sets() -> Model:
    """Operator set 9: attributes where there are inputs now, and axes left out of Slice."""
    nodes = [
        ok("Slice", "x", "a", starts=[0, 1], ends=[2**31 - 1, 3], axes=[0, 1]),
        ok("Unsqueeze", "a", "u", axes=[1]),
        ok("Upsample", "u scales", "b", mode="nearest"),
        ok("Squeeze", "b", "s", axes=[1]),
        ok("Softmax", "s", "m", axis=1),
        ok("ReduceSum", "m", "r", axes=[1], keepdims=1),
        ok("Mul", "m r", "y"),
    ]
    return simple(nodes, [weight("scales", [1, 1, 2])], opset=9, ir=7)


def texts() -> Model:
    """Texts to numbers and on."""
    nodes = [
        h.make_node("LabelEncoder", ["x"], ["e"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[1, 2]),
        ok("Cast", "e", "y", to=T.FLOAT),
    ]
    return simple(nodes, x=(T.STRING, ["n", 2]), y=(T.FLOAT, ["n", 2]), domains=[("ai.onnx.ml", 3)])


def bfloat16() -> Model:
    kind = (T.BFLOAT16, ["n", 2])
    return simple([ok("Identity", "x", "y")], x=kind, y=kind)


def half_precision() -> Model:
    kind = (T.FLOAT16, ["n", 4])
    return simple([ok("MatMul", "x w", "m"), ok("Tanh", "m", "y")], [weight("w", _random(4, 4), np.float16)], x=kind, y=kind)


def two_inputs() -> Model:
    nodes = [ok("Gather", "table id", "e", axis=0), ok("Concat", "x e", "j", axis=1), ok("Gemm", "j w", "y")]
    return graph_model(
        nodes,
        [info("x", T.FLOAT, ["n", 4]), info("id", T.INT64, ["n"])],
        [info("y", T.FLOAT, ["n", 2])],
        [weight("table", _random(9, 3)), weight("w", _random(7, 2))],
    )


def masked_mean() -> Model:
    """The mean over those tokens that a mask marks, each row by its own."""
    nodes = [
        ok("Unsqueeze", "mask last", "m"),
        ok("Mul", "x m", "p"),
        ok("ReduceSum", "p one", "s", keepdims=0),
        ok("ReduceSum", "m one", "c", keepdims=0),
        ok("Max", "c least", "d"),
        ok("Div", "s d", "y"),
    ]
    weights = [weight("last", [2], np.int64), weight("one", [1], np.int64), weight("least", 1)]
    inputs = [info("x", T.FLOAT, ["n", "k", 4]), info("mask", T.FLOAT, ["n", "k"])]
    return graph_model(nodes, inputs, [info("y", T.FLOAT, ["n", 4])], weights)


def constant_node() -> Model:
    """A shape that is computed from constants alone."""
    nodes = [
        ok("Constant", "", "a", value=numpy_helper.from_array(np.array([-1], np.int64))),
        ok("Concat", "a four", "shape", axis=0),
        ok("Flatten", "x", "f"),
        ok("Reshape", "f shape", "y"),
    ]
    nodes[0].input[:] = []
    return simple(nodes, [weight("four", [4], np.int64)], x=(T.FLOAT, ["n", 2, 2]))


HAND_MADE: dict[str, Callable[[], Model]] = {
    make.__name__: make
    for make in (
        perceptron, convolutions, resize_by_sizes, attention, merged_heads, class_token, embedding, norms,
        quantized_pairs, quantized_operators, microsoft, function, scan_over_rows, repeated_steps, branch_by_length,
        pieces, einsum, old_operator_sets, texts, bfloat16, half_precision, two_inputs, masked_mean, constant_node,
    )
}  # fmt: skip
HAND_MADE |= {
    operator: lambda operator=operator, gates=gates: recurrent(operator, gates)
    for operator, gates in {"LSTM": 4, "GRU": 3, "RNN": 1}.items()
}
