"""
The trial run: a model is loaded and run in a spawned child with limits before it is registered, so that a hostile or
broken file kills the child and not the gateway.

`trial` is called in control; ``python -m gateway.runtime.probe`` is the child: one JSON line in, one JSON line out.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from registry.errors import InvalidModel
from registry.prediction import check_prediction, guess_prediction
from registry.versions import Facts, Prediction

DEFAULT_TIMEOUT_S = 120.0
DEFAULT_MEMORY_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class Order:
    """What the child is to try. ``memory_bytes`` bounds its address space, ``cpu_s`` its processor time."""

    path: str
    prediction: Prediction | None
    memory_bytes: int
    cpu_s: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the facts, or why the model cannot be admitted."""

    facts: Facts | None = None
    refusal: str = ""


def trial(
    path: Path,
    *,
    prediction: Prediction | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> Facts:
    """
    The facts about the model in an ONNX file, found by running it. ``prediction`` says which output is the prediction;
    None reads it from the signature. Raises InvalidModel saying what went wrong, InvalidValue for a wrong ``prediction``.
    """
    order = Order(str(path), prediction, memory_bytes, max(1, int(timeout_s)))
    try:
        child = subprocess.run(
            [sys.executable, "-m", "gateway.runtime.probe"],
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InvalidModel(f"the trial run did not end within {timeout_s:g} s", limit_s=timeout_s) from None
    if child.returncode:
        raise InvalidModel(f"the trial run ended with {_ending(child.returncode)}{_last_line(child.stderr)}")
    outcome = msgspec.json.decode(child.stdout, type=Outcome)
    if outcome.facts is None:
        raise InvalidModel(outcome.refusal)
    if prediction is not None:
        check_prediction(outcome.facts.signature, prediction)
    return outcome.facts


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hints = {signal.SIGXCPU: " (too much processor time)", signal.SIGKILL: " (too much processor time or memory)"}
    return f"signal {signal.Signals(-code).name}{hints.get(signal.Signals(-code), '')}"


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:500]}" if lines else ""


def _limit(order: Order) -> None:
    for what, bound in (
        (resource.RLIMIT_AS, order.memory_bytes),
        (resource.RLIMIT_CPU, order.cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def examine(order: Order) -> Outcome:
    """Loads and runs a model in this process."""
    from gateway.runtime.onnx import OnnxSession
    from gateway.runtime.session import LoadRefused
    from gateway.runtime.synthetic import has_free_dimensions, row_independence, runnable_inputs
    from registry.onnx_file import read_model

    try:
        signature = read_model(Path(order.path)).signature
        session = OnnxSession(Path(order.path))
    except InvalidModel as error:
        return Outcome(refusal=str(error))
    except LoadRefused as error:
        return Outcome(refusal=f"the runtime cannot load the model: {error}")
    if runnable_inputs(session, 1) is None and not has_free_dimensions(signature):
        return Outcome(refusal="the model failed on every made-up input that fits its signature")
    is_batchable, reason = row_independence(session)
    prediction = order.prediction or guess_prediction(signature)
    return Outcome(Facts(signature, prediction, is_batchable, reason))


def main() -> None:
    """The child."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    _limit(order)
    sys.stdout.buffer.write(msgspec.json.encode(examine(order)))


if __name__ == "__main__":
    main()
