"""Rules of recurrent operators: LSTM, GRU and RNN. Pure. Axes: https://onnx.ai/onnx/operators/onnx__LSTM.html"""

from __future__ import annotations

from gateway.runtime.proof.forms import NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.step import OperatorStep, Rule

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


def recurrent(step: OperatorStep) -> tuple[Tensor, ...]:
    """The batch is axis 1 of X [steps, batch, size], of states [directions, batch, size]; axis 0 of both with layout 1."""
    is_batch_first = bool(step.attribute("layout", 0))
    axis = 0 if is_batch_first else 1
    rows = step.rows()
    if rows.axis != axis:
        raise NotProved("mixes rows: they are its steps or its values")
    for index in range(1, len(step.inputs)):
        if index == 4 and step.input(4) is not None:
            _own(step.input(4), 0, rows)
        elif index in _STATES[step.node.operator] and step.input(index) is not None:
            _own(step.input(index), axis, rows)
        else:
            step.plain(index)
    sequence_axis = 0 if is_batch_first else 2
    return tuple(
        step.result(sequence_axis if index == 0 else axis, rows.block, index) if name else Plain(())
        for index, name in enumerate(step.node.outputs)
    )


def _own(tensor: Tensor | None, axis: int, rows: Rows) -> None:
    """Raises NotProved unless a state or a length is each row's own."""
    if not isinstance(tensor, Rows) or tensor.axis != axis or tensor.block != rows.block:
        raise NotProved("has states or lengths that are not the rows' own")


RULES: dict[tuple[str, str], Rule] = {("", name): recurrent for name in _STATES}
