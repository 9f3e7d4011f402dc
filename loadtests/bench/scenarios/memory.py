"""Memory per worker: bare, with digits, with a 192 MiB model; one worker and two; and what malloc's settings cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.bench import bodies, model_files
from loadtests.bench.gauges import MIB, Memory
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, Interlock
from loadtests.bench.stand import Stand

WIDE = "wide"
# glibc's own defaults, which a worker would have without the variables of gateway/process.py.
PLAIN_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "131072"}
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class MemoryPerWorker:
    """``mebibytes`` of weights in the large model."""

    mebibytes: int = 192
    name: str = "memory"
    about: str = "memory of a worker at rest, by what it holds"
    goals: Sequence[Goal] = ()

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        file = model_files.wide(stand.folder / "wide.onnx", self.mebibytes, 1)
        rows: list[tuple[str, Memory]] = []
        for workers in (1, 2):
            with stand.gateway(workers=workers) as gateway:
                rows += _holding(stand, gateway, file, f"{workers} worker{'s' * (workers > 1)}")
        rows += _after_large(stand, "after large requests", {}) + _after_large(stand, "… with glibc's own malloc", PLAIN_MALLOC)
        figures = {f"private_mib: {name}": memory.anonymous / MIB for name, memory in rows}
        cells = [
            [name, *(f"{size / MIB:,.0f}" for size in (memory.anonymous, memory.private, memory.proportional, memory.resident))]
            for name, memory in rows
        ]
        note = "Of several workers the largest is shown. Proportional memory divides what is shared by its sharers."
        return Result(
            figures, [Grid("MiB per worker", ["", "private", "with mapped files", "proportional", "resident"], cells)], [note]
        )


def _holding(stand: Stand, gateway: Interlock, file: Path, name: str) -> list[tuple[str, Memory]]:
    """A worker's memory bare, with digits, and with the large model beside it, each after some requests."""
    rows = [(f"{name}, bare", _largest(gateway))]
    gateway.deploy(MODEL, stand.digits())
    stand.target(gateway.port).closed(stand.seconds(1), depth=32, connections=4)
    rows.append((f"{name}, digits", _largest(gateway)))
    gateway.deploy(WIDE, file)
    row = np.ones((1, model_files.WIDE_COLUMNS), np.float32)
    stand.target(gateway.port, bodies.infer(WIDE, {model_files.INPUT: row})).closed(stand.seconds(1), depth=2, connections=4)
    return [*rows, (f"{name}, digits and the large model", _largest(gateway))]


def _after_large(stand: Stand, name: str, env: Mapping[str, str]) -> list[tuple[str, Memory]]:
    """A worker's memory after 602 KB requests from 32 streams."""
    with stand.gateway(env=env) as gateway:
        gateway.deploy("taster", model_files.taster(stand.folder / "taster.onnx"))
        image = np.ones(model_files.IMAGE, np.float32)
        stand.target(gateway.port, bodies.infer("taster", {model_files.INPUT: image})).closed(stand.seconds(2), depth=32)
        return [(name, _largest(gateway))]


def _largest(gateway: Interlock) -> Memory:
    time.sleep(SETTLE_S)
    return max((Memory.of(pid) for pid in gateway.workers), key=lambda memory: memory.private)
