"""What a shadow twenty times slower than its primary costs the primary's callers, at half of what the primary can carry."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from loadtests.bench.load import Answers
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, Interlock
from loadtests.bench.stand import Stand

SLOWER = 20.0


@dataclass(frozen=True, slots=True)
class ShadowCost:
    """The shadow at 100 % is switched on and off in turns in the same gateway; p99 is over every request of all turns."""

    name: str = "shadow"
    about: str = "a shadow twenty times slower than digits at 100 %, switched on and off, open loop at half of capacity"
    goals: Sequence[Goal] = (
        Goal("p99_ratio", "× the p99 without the shadow", at_most=1.5),
        Goal("primary_errors", "failed calls of the primary", at_most=0),
        Goal("shadow_dropped", "copies dropped, as more than the shadow can carry are offered", at_least=1),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        file = stand.digits()
        slow = slow_enough(file, stand.folder)
        with stand.gateway() as gateway:
            gateway.deploy(MODEL, file, slow)
            target = stand.target(gateway.port)
            rate = target.closed(stand.seconds(3), depth=32).rate() / 2
            parts: dict[bool, list[Answers]] = {False: [], True: []}
            for turn in range(2 * (stand.repetitions + 1)):
                has_shadow = bool(turn % 2)
                gateway.admin.shadow(MODEL, 2 if has_shadow else None).result()
                parts[has_shadow].append(target.open(rate, stand.seconds(4), is_random=True, seed=turn // 2))
            counts = _counts(gateway)
        without, beside = Answers.joined(parts[False]), Answers.joined(parts[True])
        figures = {
            "offered_per_s": rate,
            "shadow_slower": run_time_s(slow, 1) / run_time_s(file, 1),
            "p99_ms_without": without.ok.p99_ms,
            "p99_ms_with": beside.ok.p99_ms,
            "p99_ratio": beside.ok.p99_ms / without.ok.p99_ms,
            "p50_ratio": beside.ok.p50_ms / without.ok.p50_ms,
            **counts,
        }
        rows = [
            [name, f"{part.count:,}", f"{part.ok.p50_ms:.2f}", f"{part.ok.p99_ms:.2f}"]
            for name, part in (("without the shadow", without), ("with the shadow", beside))
        ]
        return Result(figures, [Grid("", ["", "requests", "p50 ms", "p99 ms"], rows)])


def _counts(gateway: Interlock) -> dict[str, float]:
    gateway.settled(MODEL)
    primary, shadow = sorted(gateway.admin.status(MODEL).models[0].versions, key=lambda version: version.version)
    return {
        "primary_requests": primary.requests,
        "primary_errors": primary.errors,
        "shadow_compared": shadow.shadow_compared,
        "shadow_dropped": shadow.shadow_dropped,
    }


def slowed(file: Path, target: Path, rounds: int) -> Path:
    """The same model behind a loop of so many rounds that changes nothing."""
    model = onnx.load(file)
    name = model.graph.input[0].name
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["keep_out"]), helper.make_node("Mul", ["state", "one"], ["state_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    for node in model.graph.node:
        node.input[:] = ["slowed_input" if given == name else given for given in node.input]
    loop = helper.make_node("Loop", ["slowed_rounds", "", name], ["slowed_input"], body=body)
    model.graph.node.insert(0, loop)
    model.graph.initializer.append(numpy_helper.from_array(np.array(rounds, np.int64), "slowed_rounds"))
    onnx.save(model, target)
    return target


def run_time_s(file: Path, rows: int) -> float:
    """The fastest of many runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.zeros((rows, 64), np.float32)}
    times = []
    for _ in range(200):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return min(times)


def slow_enough(file: Path, folder: Path) -> Path:
    """A version at least SLOWER times slower, both alone and in a batch of 16."""
    rounds = 16
    while True:
        target = slowed(file, folder / f"slow-{rounds}.onnx", rounds)
        if all(run_time_s(target, rows) >= SLOWER * run_time_s(file, rows) for rows in (1, 16)):
            return target
        rounds *= 2
