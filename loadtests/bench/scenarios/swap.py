"""Promotes of a 192 MiB model under load: latency while loading, warming and swapping, and memory, each in swaps of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from loadtests.bench import bodies, model_files
from loadtests.bench.gauges import MIB, Memory, Sampler
from loadtests.bench.load import Answers, Target
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, Interlock
from loadtests.bench.stand import Stand

WIDE = "wide"
LOAD_SHARE = 0.5  # of what the model can carry one by one
NEIGHBOUR_PER_S = 300.0  # digits requests on the same worker
PAUSE_S = 2.0
LEAST_DURING_S = 1.0  # a swap's window: until its promote has returned, and so long at least
SETTLE_S = 0.3  # after the window: neither during nor steady


@dataclass(frozen=True, slots=True)
class Swap:
    """``mebibytes`` of weights; ``swaps`` with latency measured, half as many with memory (whose sampling disturbs)."""

    mebibytes: int = 192
    swaps: int = 8
    name: str = "swap"
    about: str = "promotes of a 192 MiB model under load, the old version unloaded each time"
    goals: Sequence[Goal] = (
        Goal("p99_ratio", "× the steady p99 while loading, warming and swapping", at_most=1.5),
        Goal("private_ratio", "× the private memory with one copy (mapped files left out), at any moment", at_most=1.1),
        Goal("failures", "failed calls", at_most=0),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        files = [model_files.wide(stand.folder / f"wide-{seed}.onnx", self.mebibytes, seed) for seed in (1, 2)]
        with stand.gateway() as gateway:
            bare = Memory.of(gateway.worker)
            gateway.deploy(MODEL, stand.digits())
            gateway.deploy(WIDE, *files)
            gateway.admin.configure(WIDE, rollback_window_s=0.0).result()
            row = np.ones((1, model_files.WIDE_COLUMNS), np.float32)
            target = stand.target(gateway.port, bodies.infer(WIDE, {model_files.INPUT: row}))
            rate = target.closed(stand.seconds(3), depth=1).rate() * LOAD_SHARE
            # Memory first: what the first copy takes must be seen before any swap.
            one_copy, most, failures = self._memory(stand, gateway, target, rate)
            swaps, answers, neighbour = self._under_load(stand, gateway, target, rate)
        figures, grid = _latencies(swaps, answers, neighbour)
        figures |= {
            "offered_per_s": rate,
            "failures": float(sum(answers.failures.values()) + sum(neighbour.failures.values()) + failures),
            "private_ratio": most.anonymous / one_copy.anonymous,
            "private_ratio_with_files": most.private / one_copy.private,
        }
        rows = []
        for name, memory in (("bare worker", bare), ("one copy, serving", one_copy), ("most during swaps", most)):
            figures[f"private_mib_{name.split(',')[0].replace(' ', '_')}"] = memory.anonymous / MIB
            rows.append([name, f"{memory.anonymous / MIB:,.0f}", f"{memory.private / MIB:,.0f}"])
        columns = ["private memory of the worker, MiB", "without mapped files", "with them"]
        return Result(figures, [grid, Grid("", columns, rows)])

    def _under_load(
        self, stand: Stand, gateway: Interlock, target: Target, rate: float
    ) -> tuple[list[tuple[float, float]], Answers, Answers]:
        """(begin, end) of each promote, the answers of the promoted model and those of its neighbour."""
        pause_s = stand.seconds(PAUSE_S)
        length_s = 2 * pause_s + self.swaps * (pause_s + 6)  # more than is needed: cut when the swaps are done
        loads = (
            target.load("open", [(rate, length_s)]),
            stand.target(gateway.port).load("open", [(NEIGHBOUR_PER_S, length_s)]),
        )
        try:
            time.sleep(2 * pause_s)
            swaps = self._promote(gateway, self.swaps, pause_s)
            wide, digits = (load.stop_early() for load in loads)
        finally:
            for load in loads:
                load.stop()
        return swaps, wide, digits

    def _promote(self, gateway: Interlock, count: int, pause_s: float) -> list[tuple[float, float]]:
        swaps = []
        for number in range(count):
            begin = time.perf_counter()
            gateway.admin.promote(WIDE, 2 - number % 2).result()
            swaps.append((begin, time.perf_counter()))
            time.sleep(max(LEAST_DURING_S, pause_s) + SETTLE_S)
        return swaps

    def _memory(self, stand: Stand, gateway: Interlock, target: Target, rate: float) -> tuple[Memory, Memory, int]:
        """Memory with one copy, the most of each kind during swaps, and failed calls."""
        count = max(2, self.swaps // 2)
        pause_s = stand.seconds(PAUSE_S)
        load = target.load("open", [(rate, 2 * pause_s + count * (pause_s + 6))])
        try:
            time.sleep(pause_s)
            with Sampler(lambda: Memory.of(gateway.worker)) as steady:
                time.sleep(pause_s)
            with Sampler(lambda: Memory.of(gateway.worker)) as swapping:
                self._promote(gateway, count, pause_s)
            answers = load.stop_early(may_be_late=True)  # its latency is not judged
        finally:
            load.stop()
        failures = sum(answers.failures.values())
        return _each(np.median, steady.samples), _each(np.max, swapping.samples), failures


def _each(summary: Callable[[list[int]], np.number[Any]], samples: Sequence[tuple[float, Memory]]) -> Memory:
    return Memory(*(int(summary([getattr(memory, one.name) for _, memory in samples])) for one in fields(Memory)))


def _latencies(swaps: list[tuple[float, float]], answers: Answers, neighbour: Answers) -> tuple[dict[str, float], Grid]:
    """p99 before, during and after the swaps. "Steady" is all that is not during."""
    figures: dict[str, float] = {"promote_ms": float(np.median([end - begin for begin, end in swaps])) * 1000}
    rows = []
    for name, prefix, several in (("the promoted model", "", answers), ("digits beside it", "neighbour_", neighbour)):
        before, during, after = _phases(swaps, several)
        steady = Answers.joined([before, after])
        for phase, part in (("before", before), ("during", during), ("after", after), ("steady", steady)):
            figures[f"{prefix}p99_ms_{phase}"] = part.ok.p99_ms
            rows.append([f"{name}, {phase}", f"{part.count:,}", f"{part.ok.p50_ms:.2f}", f"{part.ok.p99_ms:.2f}"])
        figures[f"{prefix}p99_ratio"] = during.ok.p99_ms / steady.ok.p99_ms
    return figures, Grid("", ["", "requests", "p50 ms", "p99 ms"], rows)


def _phases(swaps: list[tuple[float, float]], answers: Answers) -> tuple[Answers, Answers, Answers]:
    ends = [max(end, begin + LEAST_DURING_S) for begin, end in swaps]
    begins = [begin for begin, _ in swaps]
    during = [answers.between(begin, end) for begin, end in zip(begins, ends, strict=True)]
    pauses = zip(ends, [*begins[1:], float("inf")], strict=True)
    after = [answers.between(end + SETTLE_S, begin) for end, begin in pauses]
    return answers.between(0, begins[0]), Answers.joined(during), Answers.joined(after)
