"""Large tensors: 602 KB in and 8 bytes out beside a lane echo that does the same; typed contents and large answers too."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.bench import bodies, h2load, model_files
from loadtests.bench.gauges import cpu_s
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import EchoServer, Interlock, ServerFailed
from loadtests.bench.stand import Stand

STREAMS = (1, 8, 32)
JUDGED = 8
READ, BACK = "echo: 602 KB in, 8 bytes out", "echo: 602 KB in and out"
RAW, TYPED, OUT = "Interlock: raw in, 8 bytes out", "Interlock: typed in, 8 bytes out", "Interlock: raw in and out"


@dataclass(frozen=True, slots=True)
class Large:
    """See the module."""

    name: str = "large"
    about: str = "an image of 1×3×224×224 FP32 (602 KB) to a model that does nearly nothing, requests a second on one core"
    goals: Sequence[Goal] = (
        Goal("read_ratio_8", "of a lane echo that reads the same bytes and returns 8, at 8 streams", at_least=0.75),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        with ExitStack() as stack:
            gateway = stack.enter_context(stand.gateway())
            gateway.deploy("taster", model_files.taster(stand.folder / "taster.onnx"))
            gateway.deploy("mirror", model_files.mirror(stand.folder / "mirror.onnx"))
            loads = self._loads(stand, stack, gateway)
            rates: dict[str, dict[int, list[float]]] = {name: {m: [] for m in STREAMS} for name in loads}
            spent: list[float] = []
            for _ in range(stand.repetitions):
                for streams in STREAMS:
                    for name, (port, body) in loads.items():
                        before = cpu_s(gateway.worker)
                        report = h2load.load(port, body, streams=streams, seconds=stand.seconds(1.5))
                        rates[name][streams].append(report.rate)
                        if name == RAW and streams == JUDGED:
                            # The warm-up is not in the count: rate × length is what the CPU was spent on.
                            spent.append((cpu_s(gateway.worker) - before) / (report.rate * (stand.seconds(1.5) + 0.3)))
            self._check(gateway)
        medians = {name: {m: statistics.median(values) for m, values in row.items()} for name, row in rates.items()}
        return self._result(medians, statistics.median(spent))

    def _loads(self, stand: Stand, stack: ExitStack, gateway: Interlock) -> dict[str, tuple[int, Path]]:
        image = np.random.default_rng(0).standard_normal(model_files.IMAGE, np.float32)
        read = EchoServer(READ, "echo_lane", "--reply-bytes", "8")
        stack.callback(read.finish, 1)
        back = EchoServer(BACK, "echo_lane")
        stack.callback(back.finish, 1)
        raw = stand.body(bodies.infer("taster", {model_files.INPUT: image}))
        typed = stand.body(bodies.infer("taster", {model_files.INPUT: image}, is_typed=True))
        out = stand.body(bodies.infer("mirror", {model_files.INPUT: image}))
        return {
            READ: (read.port, raw),
            RAW: (gateway.port, raw),
            TYPED: (gateway.port, typed),
            BACK: (back.port, out),
            OUT: (gateway.port, out),
        }

    def _check(self, gateway: Interlock) -> None:
        """h2load counts HTTP answers: whether they were gRPC's OK is the gateway's to tell."""
        for model in ("taster", "mirror"):
            stats = gateway.statistics(model).inference_stats
            if stats.fail.count > 0.01 * stats.success.count:  # h2load abandons calls at its end
                raise ServerFailed(f"{model}: {stats.fail.count} failed of {stats.success.count}")

    def _result(self, rates: dict[str, dict[int, float]], cpu_per_request_s: float) -> Result:
        figures: dict[str, float] = {}
        for name, (one, other) in {"read": (RAW, READ), "typed": (TYPED, RAW), "back": (OUT, BACK)}.items():
            figures |= {f"{name}_ratio_{m}": rates[one][m] / rates[other][m] for m in STREAMS}
        figures |= {f"raw_per_s_{m}": rates[RAW][m] for m in STREAMS}
        figures["raw_cpu_us_8"] = cpu_per_request_s * 1e6
        rows = [[name, *(f"{row[m]:,.0f}" for m in STREAMS)] for name, row in rates.items()]
        rows.append(["raw in / echo", *(f"{figures[f'read_ratio_{m}']:.2f}" for m in STREAMS)])
        rows.append(["raw in and out / echo", *(f"{figures[f'back_ratio_{m}']:.2f}" for m in STREAMS)])
        rows.append(["typed / raw", *(f"{figures[f'typed_ratio_{m}']:.2f}" for m in STREAMS)])
        return Result(figures, [Grid("", ["requests/s on one core, by streams", *map(str, STREAMS)], rows)])
