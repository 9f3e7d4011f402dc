"""Rules of ONNX Runtime's own operators (com.microsoft), and of attention in ONNX. Pure.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from gateway.runtime.proof.axes import OVER_ROWS, per_sample
from gateway.runtime.proof.elementwise import aligned, broadcast
from gateway.runtime.proof.forms import NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.linear import gemm, product_of
from gateway.runtime.proof.sizes import ONE
from gateway.runtime.proof.step import OperatorStep, Rule, refuse_axis

DOMAIN = "com.microsoft"


def fused_matmul(step: OperatorStep) -> tuple[Tensor, ...]:
    """FusedMatMul: with the last two axes turned, if it says so."""
    if step.attribute("transBatchA", 0) or step.attribute("transBatchB", 0):
        raise NotProved("turns the axes of a batch")
    left, right = step.given(0), step.given(1)
    left = _turned(left) if step.attribute("transA", 0) else left
    right = _turned(right) if step.attribute("transB", 0) else right
    return (product_of(left, right, step.node.outputs[0]),)


def _turned(tensor: Tensor) -> Tensor:
    dims = (*tensor.dims[:-2], tensor.dims[-1], tensor.dims[-2])
    if isinstance(tensor, Plain):
        return Plain(dims, is_constant=tensor.is_constant)
    last = {tensor.rank - 1: tensor.rank - 2, tensor.rank - 2: tensor.rank - 1}
    return Rows(dims, last.get(tensor.axis, tensor.axis))


def to_weights(step: OperatorStep) -> tuple[Tensor, ...]:
    """MatMulNBits and MatMulIntegerToFloat's kind: a product with weights, along the last axis."""
    rows = step.only_first_has_rows()
    refuse_axis(rows, [-1], OVER_ROWS)
    return (step.result(rows.axis, rows.block),)


def skip_layer_norm(step: OperatorStep) -> tuple[Tensor, ...]:
    """SkipLayerNormalization: the sum of two inputs, normalised along the last axis."""
    both = [tensor for tensor in (step.input(0), step.input(1)) if tensor is not None]
    rows = broadcast(both, step.node.outputs[0])
    refuse_axis(rows, [-1], OVER_ROWS)
    for index in range(2, len(step.inputs)):
        aligned(step.plain(index), rows)
    return step.results(rows.axis, rows.block)


def attention(step: OperatorStep) -> tuple[Tensor, ...]:
    """Attention and MultiHeadAttention: every input that carries rows does so on axis 0; masks and biases may be for all."""
    blocks = set()
    for tensor in step.inputs:
        if isinstance(tensor, Rows):
            if tensor.axis:
                raise NotProved(OVER_ROWS)
            blocks.add(tensor.block)
    if len(blocks) != 1:
        raise NotProved("mixes rows: its inputs carry them on different axes")
    query = step.rows(0)
    data = _DATA[step.node.domain, step.node.operator]
    for index, tensor in enumerate(step.inputs):
        is_for_all = index not in data or (not step.node.domain and tensor is not None and tensor.rank == 2)
        if isinstance(tensor, Plain) and not is_for_all and tensor.rank and tensor.dims[0] != ONE:
            raise NotProved("combines rows with a tensor that has a fixed number of them")
    return step.results(0, query.block)


_DATA = {
    ("", "Attention"): (1, 2, 3, 4, 5),
    (DOMAIN, "Attention"): (3, 4, 5),
    (DOMAIN, "MultiHeadAttention"): (1, 2, 4, 5, 6, 7),
}


def distances(step: OperatorStep) -> tuple[Tensor, ...]:
    """CDist: the distance of every row to every vector of a table."""
    rows = step.rows(0)
    step.plain(1)
    if rows.axis:
        raise NotProved(OVER_ROWS)
    return (step.result(0, rows.block),)


RULES: dict[tuple[str, str], Rule] = {
    (DOMAIN, "FusedMatMul"): fused_matmul,
    (DOMAIN, "TransposeMatMul"): fused_matmul,
    (DOMAIN, "FusedGemm"): gemm,
    (DOMAIN, "MatMulNBits"): to_weights,
    (DOMAIN, "SkipLayerNormalization"): skip_layer_norm,
    (DOMAIN, "SkipSimplifiedLayerNormalization"): skip_layer_norm,
    (DOMAIN, "FusedConv"): per_sample,
    (DOMAIN, "QLinearGlobalAveragePool"): per_sample,
    (DOMAIN, "QLinearAveragePool"): per_sample,
    (DOMAIN, "Attention"): attention,
    (DOMAIN, "MultiHeadAttention"): attention,
    ("", "Attention"): attention,
    (DOMAIN, "CDist"): distances,
}
