"""Rules of operators with subgraphs: If, Loop and Scan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.runtime.proof.forms import NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.graph import Graph, captured, reads
from gateway.runtime.proof.sizes import Size, symbol
from gateway.runtime.proof.step import OperatorStep, axis_of

Outer = Mapping[str, Tensor]
Walk = Callable[[Graph, Outer], tuple[Tensor, ...]]  # raises NotProved


def branch(step: OperatorStep, outer: Outer, walk: Walk) -> tuple[Tensor, ...]:
    """If: the condition must be the same for all rows, and both branches must carry them alike."""
    condition = step.plain(0)
    branches: tuple[Graph, Graph] = step.attribute("then_branch"), step.attribute("else_branch")
    if condition is not None and condition.elements is not None and condition.elements.size == 1:
        told = condition.elements.flat[0]
        if told is not None and told.is_constant:
            return walk(branches[0 if told.factor else 1], outer)
    if condition is None or condition.depends_on_rows:
        raise NotProved("mixes rows: their number decides which branch is taken")
    return tuple(_either(one, other) for one, other in zip(walk(branches[0], outer), walk(branches[1], outer), strict=True))


def _either(one: Tensor, other: Tensor) -> Tensor:
    """Returns what is known of a tensor that is one or the other."""
    if one == other and isinstance(one, Rows):
        return one
    plain = [tensor for tensor in (one, other) if isinstance(tensor, Plain) and not tensor.depends_on_rows]
    if len(plain) == 2 and one.dims == other.dims:
        return Plain(one.dims)
    raise NotProved("has branches that carry rows in different forms")


def loop(step: OperatorStep, outer: Outer, walk: Walk) -> tuple[Tensor, ...]:
    """
    Loop: as many turns for all rows, and what it carries keeps its form in a turn. So, by induction, row r of it depends on
    row r of the inputs only, after any number of turns.
    """
    body: Graph = step.attribute("body")
    for index in (0, 1):
        turns = step.plain(index)
        if turns is not None and turns.depends_on_rows:
            raise NotProved("mixes rows: their number decides how often it turns")
    given = [_any_value(tensor) for tensor in step.inputs[2:] if tensor is not None]
    if len(given) < len(body.inputs) - 2:
        raise NotProved("lacks a state")
    turn = symbol(f"{step.node.outputs[0]}:turns")
    inner = {**outer, body.inputs[0]: Plain(()), body.inputs[1]: Plain(()), **dict(zip(body.inputs[2:], given, strict=True))}
    goes_on, *after = walk(body, inner)
    if isinstance(goes_on, Rows) or goes_on.depends_on_rows:
        raise NotProved("mixes rows: they decide how often it turns")
    for state, result in zip(given, after, strict=False):
        if _any_value(result) != state:
            raise NotProved("carries a tensor from turn to turn whose form changes")
    return (*given, *(_stacked(one, turn) for one in after[len(given) :]))


def _any_value(tensor: Tensor) -> Tensor:
    """Returns the form of a tensor whose value changes from turn to turn. Raises NotProved if it depends on the rows."""
    if isinstance(tensor, Rows):
        return tensor
    if tensor.depends_on_rows:
        raise NotProved("mixes rows: it carries their number from turn to turn")
    return Plain(tensor.dims)


def scan(step: OperatorStep, outer: Outer, walk: Walk) -> tuple[Tensor, ...]:
    """Scan: over the rows, or over something else with the rows as a state that never changes."""
    body: Graph = step.attribute("body")
    states = len(step.inputs) - int(step.attribute("num_scan_inputs"))
    if step.node.version < 9:
        raise NotProved("is of an operator set before 9")
    if any(isinstance(tensor, Rows) for tensor in step.inputs[states:]):
        return _over_rows(step, outer, body, states)
    return _beside_rows(step, outer, body, states, walk)


def _over_rows(step: OperatorStep, outer: Outer, body: Graph, states: int) -> tuple[Tensor, ...]:
    """
    Scan over the rows: its body sees one row a turn and may do with it what it likes, as long as nothing that it carries
    to the next turn comes from a row.
    """
    for name in captured(body):
        around = outer.get(name)
        if isinstance(around, Rows) or (around is not None and around.depends_on_rows):
            raise NotProved("mixes rows: every turn sees them all, or their number")
    carriers = _scanned(step, states)
    _carries_no_row(body, states)
    for index in range(states):
        state = step.plain(index)
        if state is None:
            raise NotProved("lacks a state")
        _any_value(state)
    axes = list(step.attribute("scan_output_axes", [0] * (len(step.node.outputs) - states)))
    results: list[Tensor] = []
    for index, name in enumerate(step.node.outputs):
        if not name:
            results.append(Plain(()))
        elif index < states:
            results.append(Plain(step.dims(index)))
        else:
            axis = axis_of(axes[index - states], len(step.shape(index)))
            results.append(step.result(axis, carriers[0].block, index))
    return tuple(results)


def _beside_rows(step: OperatorStep, outer: Outer, body: Graph, states: int, walk: Walk) -> tuple[Tensor, ...]:
    """Scan over a tensor without rows: one turn is proved, and a state that carries rows has to be the same after it."""
    axes = list(step.attribute("scan_input_axes", [0] * (len(step.inputs) - states)))
    if any(axes) or any(step.attribute("scan_output_axes", [0])):
        raise NotProved("scans another axis than the first")
    inner = dict(outer)
    for index, (name, tensor) in enumerate(zip(body.inputs, step.inputs, strict=True)):
        if tensor is None:
            raise NotProved("lacks an input")
        form = _any_value(tensor)
        inner[name] = form if index < states else Plain(form.dims[1:])
    results = walk(body, inner)
    given = _passed_on(body)
    for index in range(states):
        after = results[index]
        if isinstance(inner[body.inputs[index]], Rows):
            if given.get(body.outputs[index], body.outputs[index]) != body.inputs[index]:
                raise NotProved("mixes rows: it carries them from turn to turn")
        elif isinstance(after, Rows) or after.depends_on_rows or after.dims != inner[body.inputs[index]].dims:
            raise NotProved("mixes rows: it carries them from turn to turn")
    turns = next(tensor.dims[0] for tensor in step.inputs[states:] if tensor is not None)
    return (*(_same(step, index) for index in range(states)), *(_stacked(one, turns) for one in results[states:]))


def _same(step: OperatorStep, index: int) -> Tensor:
    """Returns a state after the last turn."""
    tensor = step.input(index)
    return tensor if isinstance(tensor, Rows) else Plain(step.dims(index))


def _stacked(turn: Tensor, turns: Size) -> Tensor:
    """Returns an output of every turn, one after the other on a new first axis."""
    dims = (turns, *turn.dims)
    if isinstance(turn, Rows):
        return Rows(dims, turn.axis + 1)
    if turn.depends_on_rows:
        raise NotProved("mixes rows: their number becomes data")
    return Plain(dims)


def _passed_on(body: Graph) -> dict[str, str]:
    """Returns the tensors that Identity passes on unchanged, with what they are."""
    given: dict[str, str] = {}
    for node in body.nodes:
        if node.operator == "Identity":
            given[node.outputs[0]] = given.get(node.inputs[0], node.inputs[0])
    return given


def _scanned(step: OperatorStep, states: int) -> list[Rows]:
    """Returns the inputs that a turn takes one index of each. Raises NotProved unless that is the same row of each."""
    carriers = [tensor for tensor in step.inputs[states:] if isinstance(tensor, Rows)]
    axes = list(step.attribute("scan_input_axes", [0] * (len(step.inputs) - states)))
    if len(carriers) < len(axes) or any(step.attribute("scan_input_directions", [0])):
        raise NotProved("scans something else than rows")
    if any(step.attribute("scan_output_directions", [0])):
        raise NotProved("gives the rows in reverse order")
    for tensor, axis in zip(carriers, axes, strict=True):
        if tensor.axis != axis_of(axis, tensor.rank) or tensor.block != carriers[0].block:
            raise NotProved("mixes rows: it carries them from turn to turn")
        if not tensor.block.is_constant or tensor.block.factor != 1:
            raise NotProved("takes several turns for a row")
    return carriers


def _carries_no_row(body: Graph, states: int) -> None:
    """Raises NotProved if a state after a turn depends on what the turn scanned."""
    tainted = set(body.inputs[states:])
    for node in body.nodes:
        if tainted & reads(node):
            tainted.update(node.outputs)
    if tainted.intersection(body.outputs[:states]):
        raise NotProved("mixes rows: it carries them from turn to turn")
