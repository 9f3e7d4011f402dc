"""
`make soak`: what an hour does, in minutes: 1,000 swaps under load, with callers that cancel, hang up and send nonsense.

Resident memory of worker and control is sampled all the while. After a warm-up, its slope must be indistinguishable from 0 or
too small to matter, nothing may be held any more at the end, and the counts must add up.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.demo import models
from loadtests.bench.chaos import Chaos, ChaosThread
from loadtests.bench.figures import Slope, slope
from loadtests.bench.gauges import MIB, resident_bytes
from loadtests.bench.load import Answers
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, Interlock
from loadtests.bench.stand import Stand

LOAD_PER_S = 400.0
MISDEED_EVERY_S = 0.02
WARM_UP = 1 / 3  # of the samples, not judged: pools fill, caches warm up
TINY_MIB = 1.0  # growth over the judged part that is let pass even where it is no noise
QUIET_S = 15.0
_SAMPLE = re.compile(r"^(interlock_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Soak:
    """
    ``swaps`` promotes and rollbacks of digits in all, one every ``every_s`` seconds at the most often. So many
    ``operations`` (unpaced swaps) come first: control keeps the last 1,000, and while that history fills, and its table grows
    once more, it takes what it will take. So do the page caches of its databases, which ``fill_s`` seconds of predictions, as
    fast as they go, fill.
    """

    swaps: int = 1000
    operations: int = 1500
    every_s: float = 0.25
    fill_s: float = 8.0
    name: str = "soak"
    about: str = "swaps under load, with callers that cancel, hang up and send nonsense"
    goals: Sequence[Goal] = (
        Goal("worker_growth_mib", "MiB that the worker surely grew in the judged part", at_most=TINY_MIB),
        Goal("control_growth_mib", "MiB that control surely grew in the judged part", at_most=TINY_MIB),
        Goal("held_at_end", "requests or leases still held at the end", at_most=0),
        Goal("failures", "failed calls of the well-behaved", at_most=0),
        Goal("unaccounted", "requests by which the counts do not add up", at_most=0),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        files = [stand.digits(), models.export(models.logistic_regression(models.scans()[0]), stand.folder / "other.onnx")]
        with stand.gateway() as gateway:
            gateway.deploy(MODEL, *files)
            for number in range(self.operations):
                _swap(gateway, number)
            filling = stand.target(gateway.port).closed(stand.seconds(self.fill_s), depth=32).ok.count
            chaos = Chaos(gateway.port, MODEL, seed=1)
            load = stand.target(gateway.port).load("open", [(LOAD_PER_S, 60 + 4 * self.swaps * self.every_s)], connections=2)
            misdeeds = ChaosThread(chaos, MISDEED_EVERY_S)
            try:
                samples = self._swap(stand, gateway)
                misdeeds.stop()
                answers = load.stop_early(may_be_late=True)  # no latency is judged here
            finally:
                misdeeds.stop()
                load.stop()
            held, unaccounted = _held(gateway), _unaccounted(gateway, filling + answers.ok.count, chaos)
        return self._result(samples, answers, chaos, held, unaccounted)

    def _swap(self, stand: Stand, gateway: Interlock) -> list[tuple[float, int, int]]:
        """Swaps; (time, resident bytes of the worker, of control) after each."""
        samples = []
        for number in range(self.swaps):
            begin = time.perf_counter()
            _swap(gateway, number)
            samples.append((time.perf_counter(), resident_bytes(gateway.worker), resident_bytes(gateway.control)))
            if (number + 1) % 100 == 0:
                stand.say(f"{number + 1} swaps")
            time.sleep(max(0.0, begin + self.every_s - time.perf_counter()))
        return samples

    def _result(
        self, samples: list[tuple[float, int, int]], answers: Answers, chaos: Chaos, held: float, unaccounted: float
    ) -> Result:
        judged = samples[int(len(samples) * WARM_UP) :]
        times = [at for at, _, _ in judged]
        span_s = times[-1] - times[0]
        slopes = {name: slope(times, [one[place] for one in judged]) for place, name in ((1, "worker"), (2, "control"))}
        figures: dict[str, float] = {"swaps": self.swaps, "requests": answers.count, "misdeeds": sum(chaos.acts.values())}
        for name, one in slopes.items():
            figures[f"{name}_growth_mib"] = max(0.0, one.low) * span_s / MIB
            figures[f"{name}_slope_kib_per_min"] = one.value * 60 / 1024
        figures |= {"held_at_end": held, "failures": float(sum(answers.failures.values())), "unaccounted": unaccounted}
        rows = [
            _row(name, slopes[name], samples[0][place], samples[-1][place]) for place, name in ((1, "worker"), (2, "control"))
        ]
        acts = ", ".join(f"{name} {count}" for name, count in sorted(chaos.acts.items()))
        note = f"{answers.count:,} well-behaved requests, p99 {answers.ok.p99_ms:.1f} ms; misdeeds: {acts}."
        columns = ["resident memory", "first MiB", "last MiB", "slope KiB/min", "95 % from", "to"]
        return Result(figures, [Grid(f"the last {span_s:.0f} s are judged", columns, rows)], [note])


def _swap(gateway: Interlock, number: int) -> None:
    change = gateway.admin.rollback(MODEL) if number % 2 else gateway.admin.promote(MODEL, 2)
    change.result()


def _row(name: str, one: Slope, first: int, last: int) -> list[str]:
    per_min = [f"{value * 60 / 1024:+,.1f}" for value in (one.value, one.low, one.high)]
    return [name, f"{first / MIB:.1f}", f"{last / MIB:.1f}", *per_min]


def metrics(gateway: Interlock) -> list[tuple[str, Mapping[str, str], float]]:
    """Every sample of /metrics: name, labels, value."""
    with urllib.request.urlopen(f"http://{gateway.http}/metrics", timeout=10) as response:
        text = response.read().decode()
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for name, labels, value in _SAMPLE.findall(text)]


def _held(gateway: Interlock) -> float:
    """Requests and leases held once it is quiet; waited for up to 15 s."""
    until = time.monotonic() + QUIET_S
    while True:
        held = sum(
            value for name, _, value in metrics(gateway) if name in ("interlock_in_flight", "interlock_version_in_flight")
        )
        if not held or time.monotonic() > until:
            return held
        time.sleep(0.2)


def _unaccounted(gateway: Interlock, seen: int, chaos: Chaos) -> float:
    """
    By how much the counts contradict each other: every OK answer that a caller has ``seen`` was counted for a version, no
    more than these and the abandoned ones were, and ModelStatistics and /metrics tell the same.
    """
    counted = gateway.settled(MODEL).inference_stats.success.count
    by_metrics = sum(
        value for name, labels, value in metrics(gateway) if name == "interlock_requests_total" and labels["code"] == "OK"
    )
    return max(0, seen - counted) + max(0, counted - seen - chaos.abandoned) + abs(counted - by_metrics)
