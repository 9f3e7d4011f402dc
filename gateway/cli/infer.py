"""`predict`: one prediction of a served model from the command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.gateway_session import data_connected
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Data, Model
from gateway.cli.output import print_json, stdout

if TYPE_CHECKING:
    from gateway.client import Prediction
    from gateway.client.tensors import Array

SHOWN_ELEMENTS = 200


def predict(
    model: Model,
    source: Annotated[
        str, typer.Option("--input", "-i", metavar="FILE", help="An .npy, .npz or JSON file; - reads standard input.")
    ],
    version: Annotated[str, typer.Option(metavar="VERSION", help="This version or alias, past the routing.")] = "",
    unit_id: Annotated[str | None, typer.Option(metavar="ID", help="The same unit always meets the same arm.")] = None,
    request_id: Annotated[str, typer.Option(metavar="ID", help="Your own id, usable in feedback.")] = "",
    timeout_s: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Deadline.")] = 30.0,
    data: Data = None,
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Ask a served model for a prediction."""
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    from gateway.cli.tensor_input import read_inputs

    with data_connected(data, admin) as client:
        info = client.metadata(model, version, timeout_s=timeout_s)
        inputs = read_inputs(content, info, "standard input" if source == "-" else source)
        started = time.perf_counter()
        answer = client.infer(
            model,
            inputs,
            version=version,
            unit_id=unit_id,
            request_id=request_id,
            timeout_s=timeout_s,
            datatypes={spec.name: spec.datatype for spec in info.inputs},
        )
        took_ms = (time.perf_counter() - started) * 1000
    if as_json:
        print_json(prediction_json(answer, took_ms))
    else:
        _show(answer, took_ms)


def prediction_json(answer: Prediction, took_ms: float) -> dict[str, Any]:
    """Describes a prediction in JSON. Text is UTF-8 with other bytes escaped; numbers that JSON lacks are text."""
    from gateway.client.tensors import datatype_of

    outputs = {
        name: {"datatype": datatype_of(array, name), "shape": list(array.shape), "data": _plain(array)}
        for name, array in answer.outputs.items()
    }
    return {
        "model": answer.model,
        "version": answer.version,
        "arm": answer.arm,
        "prediction_id": answer.prediction_id,
        "request_id": answer.request_id,
        "latency_ms": round(took_ms, 3),
        "outputs": outputs,
    }


def _show(answer: Prediction, took_ms: float) -> None:
    import numpy as np

    console = stdout()
    console.print(
        f"{answer.model} version {answer.version} ({answer.arm}), {took_ms:.1f} ms, prediction {answer.prediction_id}",
        markup=False,
    )
    for name, array in answer.outputs.items():
        console.print(f"{name} {list(array.shape)}", markup=False)
        shown = _text(array) if array.dtype == object else array
        if not isinstance(shown, np.ndarray):
            shown = np.array(shown, dtype=object)
        text = np.array2string(shown, precision=5, suppress_small=True, threshold=SHOWN_ELEMENTS, max_line_width=96)
        console.print("  " + text.replace("\n", "\n  "), markup=False)


def _plain(array: Array) -> Any:
    """Converts an array to nested lists of values that JSON has."""
    if array.dtype == object:
        return _text(array)
    if array.dtype.kind not in "biu":
        return _finite(array.astype("f8").tolist() if array.dtype.itemsize < 4 else array.tolist())
    return array.tolist()


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _text(array: Array) -> Any:
    value = array.tolist()
    return _decoded(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
