"""Many models: whether a request costs the same with 1,000 models registered and 200 loaded as with one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.clock import SystemClock
from loadtests.bench import bodies
from loadtests.bench.gauges import MIB, Memory, cpu_s
from loadtests.bench.load import LoadFailed, Target
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, Interlock
from loadtests.bench.stand import Stand
from registry.registry import open_registry

DEPTH = 32
ROUNDS = 5  # for each repetition


@dataclass(frozen=True, slots=True)
class Many:
    """One gateway with digits alone and one with so many ``registered`` and ``loaded`` take turns."""

    registered: int = 1000
    loaded: int = 200
    name: str = "many"
    about: str = "digits among 1,000 registered and 200 loaded models, beside digits alone"
    goals: Sequence[Goal] = (
        Goal("rate_ratio", "of the rate with one model", at_least=0.95),
        Goal("cpu_ratio", "× the worker's CPU a request with one model", at_most=1.05),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        with stand.gateway() as few, stand.gateway(self._registry(stand)) as many:
            few.deploy(MODEL, stand.digits())
            figures = {"deploy_s": self._load(stand, many)}
            names = [_name(number) for number in range(self.loaded)]
            loads = {
                "one model": (few, stand.target(few.port)),
                "one of many": (many, stand.target(many.port, bodies.digits(names[self.loaded // 2]))),
                "all in turn": (many, stand.target(many.port, *map(bodies.digits, names))),
            }
            samples: dict[str, list[tuple[float, float]]] = {name: [] for name in loads}
            for _ in range(ROUNDS * stand.repetitions):
                for name, (gateway, target) in loads.items():
                    samples[name].append(_sample(gateway, target, stand.seconds(1)))
            figures["private_mib_many"] = Memory.of(many.worker).private / MIB
            figures["private_mib_one"] = Memory.of(few.worker).private / MIB
        rate = {name: statistics.median(one for one, _ in several) for name, several in samples.items()}
        cpu = {name: statistics.median(one for _, one in several) for name, several in samples.items()}
        figures |= {
            "one_per_s": rate["one model"],
            "many_per_s": rate["one of many"],
            "all_in_turn_per_s": rate["all in turn"],
            "rate_ratio": _ratio([rate for rate, _ in samples["one of many"]], [rate for rate, _ in samples["one model"]]),
            "cpu_ratio": _ratio([cpu for _, cpu in samples["one of many"]], [cpu for _, cpu in samples["one model"]]),
            "in_turn_cpu_ratio": cpu["all in turn"] / cpu["one model"],
        }
        rows = [[name, f"{rate[name]:,.0f}", f"{cpu[name]:.1f}"] for name in loads]
        note = (
            f"{self.loaded} deployments took {figures['deploy_s']:.1f} s; the worker then has "
            f"{figures['private_mib_many']:.0f} MiB of its own, with one model {figures['private_mib_one']:.0f}. "
            "In turn, neighbouring requests share no batch."
        )
        return Result(figures, [Grid("", ["", "requests/s", "worker CPU a request, µs"], rows)], [note])

    def _registry(self, stand: Stand) -> Path:
        """
        A home with so many models in its registry. One is registered through the gateway, the others are written as it was:
        a trial run of each would take minutes and measure nothing here.
        """
        home = stand.home()
        with stand.gateway(home) as gateway:
            gateway.deploy(_name(0), stand.digits())
        registry = open_registry(home, SystemClock())
        try:
            first = registry.version(_name(0), 1)
            for number in range(1, self.registered):
                registry.register(_name(number), stand.digits(), facts=first.facts)
        finally:
            registry.close()
        return home

    def _load(self, stand: Stand, gateway: Interlock) -> float:
        """Deploys so many; the seconds it took."""
        began = time.perf_counter()
        for number in range(1, self.loaded):
            gateway.admin.deploy(_name(number), 1).result()
        deployed_s = time.perf_counter() - began
        stand.say(f"{self.registered:,} registered, {self.loaded} deployed")
        return deployed_s


def _ratio(samples: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of those that were measured one after the other."""
    return statistics.median(one / other for one, other in zip(samples, others, strict=True))


def _name(number: int) -> str:
    return f"digits-{number}"


def _sample(gateway: Interlock, target: Target, seconds: float) -> tuple[float, float]:
    """(requests a second, worker CPU per request in µs)."""
    before = cpu_s(gateway.worker)
    answers = target.closed(seconds, depth=DEPTH)
    spent = cpu_s(gateway.worker) - before
    if answers.failures:
        raise LoadFailed(f"of {answers.count} requests some failed, by status: {answers.failures}")
    return answers.rate(), spent / answers.count * 1e6
