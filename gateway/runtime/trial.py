"""
The trial: loads and runs a model in a spawned child with limits before it is registered, so that a hostile or broken file
kills the child and not the gateway.

`trial` is called in control; ``python -m gateway.runtime.trial`` is the child: one JSON line in, one JSON line out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.runtime.runtime_text import caller_text, folders_of
from gateway.runtime.sandbox import Limits, SandboxFailed, answer, ask
from registry.errors import InvalidModel, InvalidValue
from registry.examples import Example, misfit, title
from registry.prediction import check_prediction, columns_problem, guess_prediction, named_scores
from registry.versions import Facts, Prediction, RowProof

if TYPE_CHECKING:
    from gateway.runtime.session import Session
    from registry.zip_maps import ScoreMap

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_MEMORY_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """
    The order to the child. ``memory_bytes`` bounds its address space, ``cpu_s`` its processor time. ``examples`` fit the
    signature.
    """

    path: str
    prediction: Prediction | None
    memory_bytes: int
    cpu_s: int
    examples: tuple[Example, ...] = ()
    is_urgent: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """The child's result: the facts, or why the model cannot be admitted. ``field`` names the example at fault, if one is."""

    facts: Facts | None = None
    refusal: str = ""
    field: str = ""


def trial(
    path: Path,
    *,
    prediction: Prediction | None = None,
    examples: Sequence[Example] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    is_urgent: bool = True,
) -> Facts:
    """
    Returns the facts about the model in an ONNX file, found by running it. ``prediction`` names the output that is the
    prediction; None reads it from the signature. ``examples`` are requests that it must answer. If it is not ``is_urgent``,
    it leaves the processor to others. Raises InvalidModel that
    says what failed, InvalidValue for a wrong ``prediction``, and InvalidValue that names the example that the model does
    not run on.
    """
    order = TrialOrder(str(path), prediction, memory_bytes, max(1, int(timeout_s)), tuple(examples), is_urgent)
    try:
        outcome = ask("gateway.runtime.trial", order, Outcome, timeout_s=timeout_s)
    except SandboxFailed as failed:
        text = caller_text(str(failed), folders_of(path))
        raise InvalidModel(f"the trial run {text}", **{"limit_s": timeout_s} if failed.is_late else {}) from None
    if outcome.field:
        raise InvalidValue(outcome.refusal, field=outcome.field)
    if outcome.facts is None:
        raise InvalidModel(outcome.refusal)
    if prediction is not None:
        check_prediction(outcome.facts.signature, prediction)
    return outcome.facts


def examine(order: TrialOrder) -> Outcome:
    """Loads and runs a model in this process."""
    if not order.is_urgent:
        os.nice(19)
    from gateway.runtime.onnx import OnnxSession
    from gateway.runtime.proof.verdict import row_verdict
    from gateway.runtime.session import LoadRefused
    from gateway.runtime.synthetic import has_free_dimensions, runnable_inputs
    from registry.onnx_file import read_model

    try:
        model = read_model(Path(order.path))
        signature = model.signature
        session = OnnxSession(Path(order.path))
    except InvalidModel as error:
        return Outcome(refusal=str(error))
    except LoadRefused as error:
        return Outcome(refusal=f"the runtime cannot load the model: {error}")
    for index, example in enumerate(order.examples):
        problem = misfit(example, signature) or _failure(session, example)
        if problem:
            return Outcome(refusal=f"{title(index, example)}: {problem}", field=f"examples[{index}]")
    failures: list[str] = []
    runs = bool(order.examples) or runnable_inputs(session, 1, failures=failures) is not None
    if not runs and not has_free_dimensions(signature):
        return Outcome(
            refusal="the model failed on every made-up input that fits its signature: register it with an example; "
            f"the runtime says: {failures[0]}"
        )
    misnamed = _misnamed(session, order)
    if misnamed:
        return Outcome(refusal=misnamed, field="prediction.classes")
    misfits = [problem for one in model.score_maps if (problem := _map_problem(session, order, one))]
    if misfits:
        return Outcome(refusal=misfits[0])
    verdict = row_verdict(Path(order.path), session, order.examples)
    classes = {one.output: one.classes for one in model.score_maps}
    prediction = named_scores(order.prediction, classes) or named_scores(guess_prediction(signature), classes)
    is_proved = verdict.proof is RowProof.PROVED
    return Outcome(Facts(signature, prediction, is_proved, verdict.reason, verdict.proof, verdict.batched_inputs))


def _failure(session: Session, example: Example) -> str:
    """Returns why the model does not run on an example; empty if it does."""
    from gateway.errors import InvalidRequest
    from gateway.runtime.example_inputs import arrays
    from gateway.runtime.session import RunFailed

    try:
        session.run([spec.name for spec in session.signature.outputs], arrays(example))
    except InvalidRequest as error:
        return str(error)
    except RunFailed as error:
        return f"the model does not run on it: {error}"
    return ""


def _misnamed(session: Session, order: TrialOrder) -> str:
    """Returns why the class names do not fit the scores of a run, whatever shape the file declares; empty if they do."""
    told = order.prediction
    if told is None or not told.classes or told.output not in {spec.name for spec in session.signature.outputs}:
        return ""
    shape = _shape_of(told.output, session, order)
    problem = columns_problem(told.classes, shape[1] if shape and len(shape) == 2 else -1)
    return f"prediction.classes: output {told.output!r}: {problem}" if problem else ""


def _map_problem(session: Session, order: TrialOrder, one: ScoreMap) -> str:
    """Returns why the scores of a run do not fit the map: with such scores the model in the file fails; empty if they do."""
    from registry.zip_maps import shape_problem

    shape = _shape_of(one.output, session, order)
    return shape_problem(one, shape) if shape is not None else ""


def _shape_of(output: str, session: Session, order: TrialOrder) -> tuple[int, ...] | None:
    """Returns the shape of an output of one run; None if no input is known that the model runs on."""
    from gateway.runtime.example_inputs import arrays
    from gateway.runtime.synthetic import runnable_inputs

    inputs = arrays(order.examples[0]) if order.examples else runnable_inputs(session, 1)
    return None if inputs is None else session.run([output], inputs)[0].shape


def main() -> None:
    """Runs the child."""
    answer(TrialOrder, lambda order: Limits(order.memory_bytes, order.cpu_s), examine)


if __name__ == "__main__":
    main()
