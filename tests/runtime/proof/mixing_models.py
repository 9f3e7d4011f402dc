"""
Models whose rows influence each other, each with the name of the node that does it. Many look independent to inputs of one
magnitude.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

Model = onnx.ModelProto


def info(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, shape)


def weight(name: str, values, dtype=np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def graph_model(nodes, inputs, outputs, weights=(), *, opset=21, functions=(), domains=(), ir=10) -> Model:
    graph = h.make_graph(nodes, "g", inputs, outputs, list(weights))
    imports = [h.make_opsetid("", opset), *(h.make_opsetid(domain, version) for domain, version in domains)]
    return h.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))


def simple(nodes, weights=(), *, x=(T.FLOAT, ["n", 4]), y=(T.FLOAT, ["n", 4]), **options) -> Model:
    """A model from x to y."""
    return graph_model(nodes, [info("x", *x)], [info("y", *y)], weights, **options)


def node(operator, inputs, outputs, name="culprit", **attributes) -> onnx.NodeProto:
    return h.make_node(operator, inputs.split(), outputs.split(), name=name, **attributes)


def ok(operator, inputs, outputs, **attributes) -> onnx.NodeProto:
    return node(operator, inputs, outputs, name="", **attributes)


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---- found in practice ------------------------------------------------------------------------------------------------


def dynamic_quantization() -> Model:
    """A quantized layer whose scale comes from the batch, with only a label as output."""
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        ok("MatMulInteger", "q w z wz", "i"),
        ok("Cast", "i", "f", to=T.FLOAT),
        ok("Mul", "f s", "scores"),
        ok("ArgMax", "scores", "y", axis=1, keepdims=0),
    ]
    weights = [weight("w", np.random.default_rng(1).integers(-100, 100, (4, 5)), np.int8), weight("wz", 0, np.int8)]
    return simple(nodes, weights, y=(T.INT64, ["n"]))


def optional_scale(shape: list, default: list) -> Model:
    """An optional input that multiplies x."""
    return graph_model(
        [node("Mul", "x scale", "y")],
        [info("x", T.FLOAT, ["n", 4]), info("scale", T.FLOAT, shape)],
        [info("y", T.FLOAT, ["n", 4])],
        [weight("scale", default)],
    )


def gate_by_maximum() -> Model:
    """A gate that opens where the batch's maximum exceeds 1000."""
    nodes = [
        node("ReduceMax", "x", "m", keepdims=0),
        ok("Greater", "m limit", "open"),
        ok("Where", "open big small", "f"),
        ok("Mul", "x f", "y"),
    ]
    return simple(nodes, [weight("limit", 1000), weight("big", 2), weight("small", 1)])


def clipped_norm() -> Model:
    """Divides by the norm over the whole batch, clipped from below."""
    nodes = [node("ReduceL2", "x", "n", keepdims=0), ok("Max", "n floor", "c"), ok("Div", "x c", "y")]
    return simple(nodes, [weight("floor", 1e4)])


def nan_guard() -> Model:
    """Zeroes everything where any value is not a number."""
    nodes = [
        ok("IsNaN", "x", "b"),
        ok("Cast", "b", "f", to=T.FLOAT),
        node("ReduceMax", "f", "any", keepdims=0),
        ok("Cast", "any", "bad", to=T.BOOL),
        ok("Where", "bad zero x", "y"),
    ]
    return simple(nodes, [weight("zero", 0)])


def detector() -> Model:
    """Gives as many boxes as pass a threshold."""
    nodes = [
        ok("ReduceMax", "x axis", "score", keepdims=0),
        ok("Greater", "score limit", "b"),
        node("NonZero", "b", "places"),
        ok("Squeeze", "places first", "flat"),
        ok("Gather", "x flat", "y", axis=0),
    ]
    weights = [weight("axis", [1], np.int64), weight("limit", -1e9), weight("first", [0], np.int64)]
    return simple(nodes, weights)


# ---- by kind ----------------------------------------------------------------------------------------------------------


def reduction(operator: str) -> Model:
    return simple([node(operator, "x axis", "m", keepdims=1), ok("Sub", "x m", "y")], [weight("axis", [0], np.int64)])


def softmax_over_rows() -> Model:
    return simple([node("Softmax", "x", "y", axis=0)])


def old_softmax() -> Model:
    """Softmax before operator set 13 takes all axes from ``axis`` on."""
    return simple([node("Softmax", "x", "y", axis=0)], opset=11)


def all_axes() -> Model:
    return simple([node("ReduceSum", "x", "m", keepdims=0), ok("Add", "x m", "y")])


def training_batch_norm() -> Model:
    weights = [weight(name, np.ones(4)) for name in ("s", "b", "m", "v")]
    return simple([node("BatchNormalization", "x s b m v", "y m2 v2", training_mode=1)], weights)


def mean_variance() -> Model:
    image = (T.FLOAT, ["n", 3, 4, 4])
    return simple([node("MeanVarianceNormalization", "x", "y")], x=image, y=image)


def gram() -> Model:
    """Multiplies rows with each other: attention over the batch."""
    nodes = [
        ok("Transpose", "x", "t", perm=[1, 0]),
        node("MatMul", "x t", "g"),
        ok("Softmax", "g", "a", axis=1),
        ok("MatMul", "a x", "y"),
    ]
    return simple(nodes)


def contraction() -> Model:
    nodes = [ok("Transpose", "x", "t"), node("MatMul", "t x", "g"), ok("MatMul", "x g", "y")]
    return simple(nodes)


def outer_difference() -> Model:
    """Pairs rows up by broadcasting."""
    nodes = [
        ok("Unsqueeze", "x zero", "a"),
        ok("Unsqueeze", "x one", "b"),
        node("Sub", "a b", "d"),
        ok("ReduceSum", "d one", "y", keepdims=0),
    ]
    return simple(nodes, [weight("zero", [0], np.int64), weight("one", [1], np.int64)])


def cumulative() -> Model:
    return simple([node("CumSum", "x axis", "y")], [weight("axis", 0, np.int64)])


def top_rows() -> Model:
    nodes = [node("TopK", "x k", "v i", axis=0, largest=1), ok("Sub", "x v", "y")]
    return simple(nodes, [weight("k", [1], np.int64)])


def divides_by_count() -> Model:
    """The number of rows as data."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Gather", "s zero", "n", axis=0),
        node("Cast", "n", "f", to=T.FLOAT),
        ok("Div", "x f", "y"),
    ]
    return simple(nodes, [weight("zero", 0, np.int64)])


def rare_count() -> Model:
    """Another answer from 100 rows on, which no small batch shows."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Gather", "s zero", "n", axis=0),
        ok("Greater", "n many", "b"),
        ok("Where", "b two one", "f"),
        node("Mul", "x f", "y"),
    ]
    weights = [weight("zero", 0, np.int64), weight("many", 100, np.int64), weight("two", 2), weight("one", 1)]
    return simple(nodes, weights)


def positions() -> Model:
    """Adds a row's position in the batch."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Gather", "s zero", "n", axis=0),
        node("Range", "zero n step", "r"),
        ok("Cast", "r", "f", to=T.FLOAT),
        ok("Unsqueeze", "f one", "c"),
        ok("Add", "x c", "y"),
    ]
    weights = [weight("zero", 0, np.int64), weight("step", 1, np.int64), weight("one", [1], np.int64)]
    return simple(nodes, weights)


def first_row() -> Model:
    nodes = [node("Gather", "x zero", "f", axis=0), ok("Sub", "x f", "y")]
    return simple(nodes, [weight("zero", 0, np.int64)])


def last_row() -> Model:
    nodes = [node("Slice", "x start end axis", "f"), ok("Sub", "x f", "y")]
    weights = [weight("start", [-1], np.int64), weight("end", [2**31 - 1], np.int64), weight("axis", [0], np.int64)]
    return simple(nodes, weights)


def reversed_rows() -> Model:
    nodes = [node("Slice", "x start end axis step", "f"), ok("Add", "x f", "y")]
    names = {"start": -1, "end": -(2**31), "axis": 0, "step": -1}
    return simple(nodes, [weight(name, [value], np.int64) for name, value in names.items()])


def shifted_rows() -> Model:
    """Adds the row before, with a row of zeros before the first."""
    nodes = [
        node("Pad", "x pads", "p"),
        ok("Slice", "p start end axis", "before"),
        ok("Add", "x before", "y"),
    ]
    weights = [weight(n, v, np.int64) for n, v in {"pads": [1, 0, 0, 0], "start": [0], "end": [-1], "axis": [0]}.items()]
    return simple(nodes, weights)


def cut_in_another_order() -> Model:
    """Lays the numbers of all rows out column by column."""
    nodes = [
        ok("Transpose", "x", "t", perm=[1, 0]),
        node("Reshape", "t shape", "y"),
    ]
    return simple(nodes, [weight("shape", [-1, 4], np.int64)])


def pairs_of_rows() -> Model:
    """Rows of odd size, cut anew: three become two."""
    nodes = [
        node("Reshape", "x shape", "two"),
        ok("Softmax", "two", "s", axis=1),
        ok("Reshape", "s back", "y"),
    ]
    weights = [weight("shape", [-1, 4], np.int64), weight("back", [-1, 6], np.int64)]
    return simple(nodes, weights, x=(T.FLOAT, ["n", 6]), y=(T.FLOAT, ["n", 6]))


def free_length_cut() -> Model:
    """Rows of a free length, cut into pieces of 8, whole only for some lengths."""
    nodes = [
        node("Reshape", "x eight", "p"),
        ok("Softmax", "p", "s", axis=1),
        ok("Shape", "x", "shape"),
        ok("Reshape", "s shape", "y"),
    ]
    free = (T.FLOAT, ["n", "length", 4])
    return simple(nodes, [weight("eight", [-1, 8], np.int64)], x=free, y=free)


def recurrent_over_rows() -> Model:
    """The batch is taken for the steps of a sequence."""
    nodes = [
        ok("Unsqueeze", "x one", "steps"),
        node("RNN", "steps w r", "h", hidden_size=4),
        ok("Squeeze", "h axes", "y"),
    ]
    weights = [weight("w", _random(1, 4, 4)), weight("r", _random(1, 4, 4, seed=1))]
    weights += [weight("one", [1], np.int64), weight("axes", [1, 2], np.int64)]
    return simple(nodes, weights)


def convolution_over_rows() -> Model:
    """Rows become the width of an image."""
    nodes = [
        ok("Transpose", "x", "t", perm=[1, 0]),
        ok("Unsqueeze", "t zero", "image"),
        node("Conv", "image w", "c", pads=[1, 1]),
        ok("Squeeze", "c zero", "flat"),
        ok("Transpose", "flat", "y", perm=[1, 0]),
    ]
    return simple(nodes, [weight("w", _random(4, 4, 3)), weight("zero", [0], np.int64)])


def einsum_gram() -> Model:
    nodes = [node("Einsum", "x x", "g", equation="ni,mi->nm"), ok("MatMul", "g x", "y")]
    return simple(nodes)


def scatter_first() -> Model:
    """Writes every row's value to the same place."""
    nodes = [
        ok("ReduceMax", "x one", "m", keepdims=0),
        ok("Cast", "m", "i", to=T.INT64),
        ok("Unsqueeze", "i one", "places"),
        node("ScatterND", "table places m", "t"),
        ok("ReduceSum", "t zero", "sum", keepdims=0),
        ok("Add", "x sum", "y"),
    ]
    weights = [weight("one", [1], np.int64), weight("zero", [0], np.int64), weight("table", np.zeros(8))]
    clamp = [ok("Clip", "x low high", "xc")]
    for one in nodes[:1]:
        one.input[0] = "xc"
    return simple(clamp + nodes, [*weights, weight("low", 0), weight("high", 7)])


def scan_state() -> Model:
    """Carries a sum of the rows from turn to turn."""
    body = h.make_graph(
        [h.make_node("Add", ["s", "row"], ["s2"]), h.make_node("Identity", ["s2"], ["out"])],
        "body",
        [info("s", T.FLOAT, [4]), info("row", T.FLOAT, [4])],
        [info("s2", T.FLOAT, [4]), info("out", T.FLOAT, [4])],
    )
    return simple([node("Scan", "start x", "end y", body=body, num_scan_inputs=1)], [weight("start", np.zeros(4))])


def _of_count(part: str = "n") -> list[onnx.NodeProto]:
    """The number of rows of x as a tensor of one element."""
    return [ok("Shape", "x", "s"), ok("Slice", "s zero one", part)]


def _counted(operator: str) -> Model:
    """Counts its rows by as many ones a row as there are rows, and doubles x from 100 on."""
    nodes = [
        *_of_count(),
        ok("Unsqueeze", "x one", "u"),
        ok("IsNaN", "u", "is_nan"),
        ok("Not", "is_nan", "is_number"),
        ok("Cast", "is_number", "ones", to=T.FLOAT),
        ok("Concat", "one n one", "shape", axis=0),
        node(operator, "ones shape", "all"),
        ok("ReduceSum", "all one", "count", keepdims=0),
        ok("Greater", "count many", "b"),
        ok("Where", "b two one_f", "f"),
        ok("Mul", "x f", "y"),
    ]
    weights = [weight("zero", [0], np.int64), weight("one", [1], np.int64), weight("many", 100)]
    return simple(nodes, [*weights, weight("two", 2), weight("one_f", 1)])


def tiled_by_count() -> Model:
    return _counted("Tile")


def expanded_by_count() -> Model:
    return _counted("Expand")


def scan_with_count() -> Model:
    """A body that sees one row a turn, and from outside whether there are 100 rows."""
    body = h.make_graph(
        [
            h.make_node("Identity", ["c"], ["c2"]),
            h.make_node("Greater", ["n", "many"], ["b"]),
            h.make_node("Where", ["b", "two", "c"], ["f"]),
            h.make_node("Mul", ["row", "f"], ["out"]),
        ],
        "body",
        [info("c", T.FLOAT, [1]), info("row", T.FLOAT, [4])],
        [info("c2", T.FLOAT, [1]), info("out", T.FLOAT, [4])],
    )
    weights = [weight("zero", [0], np.int64), weight("one", [1], np.int64), weight("many", [100], np.int64)]
    weights += [weight("start", [1]), weight("two", [2])]
    return simple([*_of_count(), node("Scan", "start x", "end y", body=body, num_scan_inputs=1)], weights)


def scan_with_count_as_state() -> Model:
    """A body over a table, with the number of rows as its state."""
    body = h.make_graph(
        [
            h.make_node("Identity", ["c"], ["c2"]),
            h.make_node("Identity", ["v"], ["v2"]),
            h.make_node("Greater", ["c", "many"], ["b"]),
            h.make_node("Where", ["b", "two", "entry"], ["f"]),
            h.make_node("Mul", ["v", "f"], ["out"]),
        ],
        "body",
        [info("c", T.INT64, [1]), info("v", T.FLOAT, ["n", 4]), info("entry", T.FLOAT, [1])],
        [info("c2", T.INT64, [1]), info("v2", T.FLOAT, ["n", 4]), info("out", T.FLOAT, ["n", 4])],
    )
    weights = [weight("zero", [0], np.int64), weight("one", [1], np.int64), weight("many", [100], np.int64)]
    weights += [weight("two", [2]), weight("table", [[1], [1]])]
    nodes = [
        *_of_count(),
        node("Scan", "n x table", "c_end v_end all", body=body, num_scan_inputs=1),
        ok("ReduceSum", "all zero", "y", keepdims=0),
    ]
    return simple(nodes, weights)


def loop_over_rows() -> Model:
    """Adds, turn by turn, the mean of the batch."""
    body = h.make_graph(
        [
            node("ReduceMean", "v", "m", keepdims=0),
            h.make_node("Add", ["v", "m"], ["v2"]),
            h.make_node("Identity", ["c"], ["c2"]),
        ],
        "body",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("v", T.FLOAT, ["n", 4])],
        [info("c2", T.BOOL, []), info("v2", T.FLOAT, ["n", 4])],
    )
    return simple([ok("Loop", "turns go x", "y", body=body)], [weight("turns", 2, np.int64), weight("go", True, np.bool_)])


def as_long_as_any() -> Model:
    """Halves every row as long as one of them is large."""
    body = h.make_graph(
        [
            ok("Mul", "v half", "v2"),
            node("ReduceMax", "v2", "m", keepdims=0),
            ok("Greater", "m limit", "c2"),
        ],
        "body",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("v", T.FLOAT, ["n", 4])],
        [info("c2", T.BOOL, []), info("v2", T.FLOAT, ["n", 4])],
    )
    weights = [weight("turns", 100, np.int64), weight("go", True, np.bool_), weight("half", 0.5), weight("limit", 1000)]
    return simple([ok("Loop", "turns go x", "y", body=body)], weights)


def branch_by_data() -> Model:
    """Takes a branch by what the batch holds."""
    then = h.make_graph([h.make_node("Neg", ["x"], ["a"])], "then", [], [info("a", T.FLOAT, ["n", 4])])
    other = h.make_graph([h.make_node("Abs", ["x"], ["b"])], "other", [], [info("b", T.FLOAT, ["n", 4])])
    nodes = [
        node("ReduceMax", "x", "m", keepdims=0),
        ok("Greater", "m limit", "c"),
        ok("If", "c", "y", then_branch=then, else_branch=other),
    ]
    return simple(nodes, [weight("limit", 1000)])


def branch_by_count() -> Model:
    """Takes a branch by the number of rows."""
    then = h.make_graph([h.make_node("Neg", ["x"], ["a"])], "then", [], [info("a", T.FLOAT, ["n", 4])])
    other = h.make_graph([h.make_node("Abs", ["x"], ["b"])], "other", [], [info("b", T.FLOAT, ["n", 4])])
    nodes = [
        ok("Shape", "x", "s"),
        ok("Gather", "s zero", "n", axis=0),
        ok("Greater", "n many", "c"),
        node("If", "c", "y", then_branch=then, else_branch=other),
    ]
    return simple(nodes, [weight("zero", 0, np.int64), weight("many", 64, np.int64)])


def in_a_function() -> Model:
    """A model-local function that centres the batch."""
    body = [
        h.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(np.array([0], np.int64))),
        h.make_node("ReduceMean", ["a", "axes"], ["m"], name="centre", keepdims=1),
        h.make_node("Sub", ["a", "m"], ["b"]),
    ]
    function = h.make_function("own", "Centre", ["a"], ["b"], body, [h.make_opsetid("", 21)])
    call = h.make_node("Centre", ["x"], ["y"], domain="own", name="call")
    return simple([call], functions=[function], domains=[("own", 1)])


def squeezes_anything() -> Model:
    """With one row the batch axis goes too."""
    nodes = [node("Squeeze", "x", "q"), ok("Reshape", "q back", "y")]
    return simple(nodes, [weight("back", [-1, 1], np.int64)], x=(T.FLOAT, ["n", 1]), y=(T.FLOAT, ["n", 1]))


def fixed_neighbour() -> Model:
    """Adds a table with one entry for each row of a batch of 64."""
    nodes = [
        ok("Shape", "x", "s"),
        ok("Slice", "s zero one", "n"),
        node("Slice", "table zero n zero", "part"),
        ok("Add", "x part", "y"),
    ]
    weights = [weight("zero", [0], np.int64), weight("one", [1], np.int64), weight("table", _random(64, 4))]
    return simple(nodes, weights)


def random_noise() -> Model:
    return simple([node("RandomNormalLike", "x", "r"), ok("Add", "x r", "y")])


def unique_rows() -> Model:
    nodes = [node("Unique", "x", "u", axis=0, sorted=1), ok("Identity", "u", "y")]
    return simple(nodes)


def compressed_rows() -> Model:
    nodes = [
        ok("ReduceMax", "x one", "m", keepdims=0),
        ok("Greater", "m limit", "b"),
        node("Compress", "x b", "y", axis=0),
    ]
    return simple(nodes, [weight("one", [1], np.int64), weight("limit", -1e9)])


def suppression() -> Model:
    """The boxes that are left after non-maximum suppression."""
    nodes = [
        ok("Unsqueeze", "x zero", "boxes"),
        ok("ReduceMax", "x one", "best", keepdims=0),
        ok("Unsqueeze", "best both", "scores"),
        node("NonMaxSuppression", "boxes scores most", "picked"),
        ok("Cast", "picked", "y", to=T.FLOAT),
    ]
    names = {"zero": [0], "one": [1], "both": [0, 1], "most": [10]}
    return simple(nodes, [weight(n, v, np.int64) for n, v in names.items()], y=(T.FLOAT, ["k", 3]))


def trained_scale() -> Model:
    """Dynamic quantization in ONNX Runtime's own operator."""
    nodes = [h.make_node("DynamicQuantizeMatMul", ["x", "w", "ws"], ["y"], name="culprit", domain="com.microsoft")]
    weights = [weight("w", np.random.default_rng(0).integers(0, 200, (4, 4)), np.uint8), weight("ws", 0.01)]
    return simple(nodes, weights, domains=[("com.microsoft", 1)])


def features_are_rows() -> Model:
    """A regression to which the batch is one sample."""
    nodes = [
        ok("Transpose", "x", "t", perm=[1, 0]),
        h.make_node("Normalizer", ["t"], ["m"], name="culprit", domain="ai.onnx.ml", norm="MAX"),
        ok("Transpose", "m", "y", perm=[1, 0]),
    ]
    return simple(nodes, domains=[("ai.onnx.ml", 3)])


def hidden_square() -> Model:
    """Softmax over the batch, and back: attention among callers."""
    nodes = [
        ok("Transpose", "x", "t", perm=[1, 0]),
        node("Softmax", "t", "s", axis=-1),
        ok("Transpose", "s", "y", perm=[1, 0]),
    ]
    return simple(nodes)


def layer_norm_over_all() -> Model:
    nodes = [
        ok("Unsqueeze", "x zero", "u"),
        node("LayerNormalization", "u scale", "l", axis=1),
        ok("Squeeze", "l zero", "y"),
    ]
    return simple(nodes, [weight("zero", [0], np.int64), weight("scale", np.ones((1, 4)))])


def channels_are_rows() -> Model:
    """Local response normalisation with the rows as channels."""
    nodes = [
        ok("Unsqueeze", "x axes", "image"),
        node("LRN", "image", "l", size=3),
        ok("Squeeze", "l axes", "y"),
    ]
    return simple(nodes, [weight("axes", [0, 3], np.int64)])


MODELS: dict[str, tuple[Model, str]] = {
    make.__name__: (make(), "culprit")
    for make in (
        dynamic_quantization, gate_by_maximum, clipped_norm, nan_guard, detector, softmax_over_rows, old_softmax,
        all_axes, training_batch_norm, mean_variance, gram, contraction, outer_difference, cumulative, top_rows,
        divides_by_count, rare_count, positions, first_row, last_row, reversed_rows, shifted_rows, cut_in_another_order,
        pairs_of_rows, free_length_cut, recurrent_over_rows, convolution_over_rows, einsum_gram, scatter_first,
        scan_state, tiled_by_count, expanded_by_count, scan_with_count, scan_with_count_as_state, loop_over_rows,
        as_long_as_any, branch_by_data, branch_by_count, squeezes_anything, fixed_neighbour, random_noise, unique_rows,
        compressed_rows, suppression, trained_scale, features_are_rows, hidden_square, layer_norm_over_all,
        channels_are_rows,
    )
}  # fmt: skip
MODELS |= {
    f"reduction_{operator}": (reduction(operator), "culprit")
    for operator in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceLogSumExp", "ReduceProd")
}
MODELS["in_a_function"] = (in_a_function(), "centre")
