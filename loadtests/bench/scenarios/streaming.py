"""
ModelStreamInfer beside unary ModelInfer over one connection with the same number of requests on their way.

The client is the same for both (`raw_http2`) and far cheaper than the server, so the rate is the server's. Server CPU per
request is measured beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.gauges import cpu_s
from loadtests.bench.load import UNIMPLEMENTED, Answers, LoadFailed, Target
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, Interlock
from loadtests.bench.stand import Stand

DEPTHS = (8, 32)
KINDS = {"unary": "closed", "stream": "pipelined"}


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests a second, and CPU of the worker per request."""

    rate: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Streaming:
    """See the module."""

    name: str = "streaming"
    about: str = "ModelStreamInfer beside unary calls, one connection, the same number of requests on their way"
    goals: Sequence[Goal] = (Goal("rate_ratio_32", "of the unary rate, 32 on their way", at_least=1.3),)

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        with stand.gateway() as gateway:
            gateway.deploy(MODEL, stand.digits())
            target = stand.target(gateway.port)
            if UNIMPLEMENTED in target.load("pipelined", [(0.0, 0.1)], depth=1).wait().failures:
                return Result({}, notes=["The gateway does not serve ModelStreamInfer."])
            samples: dict[tuple[str, int], list[Sample]] = {}
            for _ in range(stand.repetitions):
                for depth in DEPTHS:
                    for name in KINDS:
                        samples.setdefault((name, depth), []).append(_sample(target, gateway, name, depth, stand.seconds(2.5)))
        return _result(samples)


def _sample(target: Target, gateway: Interlock, name: str, depth: int, seconds: float) -> Sample:
    before = cpu_s(gateway.worker)
    answers: Answers = target.load(KINDS[name], [(0.0, seconds)], depth=depth).wait()
    spent = cpu_s(gateway.worker) - before
    if answers.failures or not answers.count:
        raise LoadFailed(f"{name}: of {answers.count} requests some failed, by status: {answers.failures}")
    return Sample(answers.rate(), spent / answers.count * 1e6)


def _result(samples: dict[tuple[str, int], list[Sample]]) -> Result:
    rate = {key: statistics.median(sample.rate for sample in several) for key, several in samples.items()}
    cpu = {key: statistics.median(sample.cpu_us for sample in several) for key, several in samples.items()}
    figures: dict[str, float] = {}
    for depth in DEPTHS:
        for name in KINDS:
            figures |= {f"{name}_per_s_{depth}": rate[name, depth], f"{name}_cpu_us_{depth}": cpu[name, depth]}
        figures[f"rate_ratio_{depth}"] = rate["stream", depth] / rate["unary", depth]
        figures[f"cpu_ratio_{depth}"] = cpu["unary", depth] / cpu["stream", depth]
    rows = [
        [f"{name}, {depth} on their way", f"{rate[name, depth]:,.0f}", f"{cpu[name, depth]:.1f}"]
        for depth in DEPTHS
        for name in KINDS
    ]
    return Result(figures, [Grid("", ["", "requests/s", "worker CPU a request, µs"], rows)])
