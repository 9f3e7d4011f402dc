"""Runs a batch: joins the inputs of its requests and runs the model once."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from gateway.errors import InferenceFailed, InvalidRequest
from gateway.runtime.halt import Halt
from gateway.runtime.session import Array, InputsRefused, RunFailed
from gateway.serving.batch import join_inputs
from gateway.serving.stages import Outputs, Routed
from gateway.versions.loaded import LoadedVersion


class BatchNotSplit(RunFailed):
    """The outputs of a batch do not have its number of rows, so nobody knows whose they are."""


def run_batch(requests: list[Routed], halt: Halt | None, expires_at: float, taken_ns: int) -> Outputs:
    """
    Returns the outputs of one run over all rows of the requests, which are of one group. ``expires_at`` is their last
    deadline (monotonic seconds), ``taken_ns`` when the batch was taken up. Raises InvalidRequest naming the input,
    RunFailed, and RunStopped when the last deadline passes or ``halt`` is requested.
    """
    first = requests[0]
    plan, version = first.plan, first.arm.version
    inputs = join_inputs(requests)
    until = expires_at if math.isfinite(expires_at) else None
    is_doubted = version.pace.is_doubted
    processor_ns = time.thread_time_ns() if is_doubted else 0
    joined_ns = time.perf_counter_ns()
    ids = first.received.id_field if len(requests) == 1 else b"".join([request.received.id_field for request in requests])
    arrays = version.run(plan.run_outputs, inputs, until, halt, requests=len(requests), ids=ids)
    outputs = Outputs(requests, arrays, taken_ns, joined_ns, time.perf_counter_ns())
    if is_doubted:
        outputs.processor_ns = time.thread_time_ns() - processor_ns
    if len(requests) > 1:
        _check_rows(arrays, sum(outputs.rows))
    return outputs


def caller_error(version: LoadedVersion, error: RunFailed | InvalidRequest) -> Exception:
    """Returns the error that a caller gets for a failed run of its request alone."""
    if isinstance(error, InvalidRequest):
        return error
    if isinstance(error, InputsRefused):
        return InvalidRequest(f"model {version.model} v{version.number} refuses these inputs: {error}", model=version.model)
    return InferenceFailed(
        f"model {version.model} v{version.number} failed on this request: {error}",
        model=version.model,
        version=version.number,
    )


def _check_rows(arrays: Sequence[Array], rows: int) -> None:
    for array in arrays:
        if not array.ndim or len(array) != rows:
            raise BatchNotSplit(f"an output of shape {list(array.shape)} does not have the {rows} rows of its batch")
