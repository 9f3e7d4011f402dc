"""The test stand of a run: a folder, the pace, the collector of traces, and what every scenario starts the same way."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway.client import CallError
from gateway.demo import models
from gateway.demo.process import GatewayBroken
from loadtests.bench import bodies
from loadtests.bench.collector import Collector
from loadtests.bench.h2load import H2loadFailed
from loadtests.bench.load import MOST_LATE_MS, LoadFailed, LoadLate, Target
from loadtests.bench.machine import LOAD, pin
from loadtests.bench.servers import MODEL, Interlock, ServerFailed

# What may go wrong with one scenario without being a mistake of the benchmark: it is told, and the next one runs.
BROKEN = (H2loadFailed, LoadFailed, ServerFailed, GatewayBroken, CallError, subprocess.SubprocessError, OSError)
LEAST_S = 0.5
TRIES = 4
T = TypeVar("T")


@dataclass(slots=True)
class Stand:
    """
    ``folder`` is empty at first and removed at the end. ``pace`` stretches or shrinks every measurement (1: as the scenario
    has it), ``repetitions`` is how often alternating measurements are repeated, ``most_late_ms`` see `load.Load`. ``say``
    tells progress.
    """

    folder: Path
    collector: Collector
    pace: float = 1.0
    repetitions: int = 3
    most_late_ms: float = MOST_LATE_MS
    say: Callable[[str], None] = print
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _digits: list[Path] = field(default_factory=list)

    def seconds(self, seconds: float) -> float:
        """A measurement's length at this pace."""
        return max(LEAST_S, seconds * self.pace)

    def in_time(self, measure: Callable[[], T]) -> T:
        """``measure()``, made anew where the load itself came too late: neighbours of the machine are no result."""
        for _ in range(TRIES - 1):
            try:
                return measure()
            except LoadLate as late:
                self.say(f"  once more: {late}")
        return measure()

    def digits(self) -> Path:
        """The digits perceptron's file."""
        if not self._digits:
            self._digits.append(models.export(models.perceptron(models.scans()[0]), self.folder / "digits.onnx"))
        return self._digits[0]

    def home(self) -> Path:
        """A folder for a gateway's home that is not there yet."""
        return self.folder / f"home-{next(self._numbers)}"

    def gateway(
        self,
        home: Path | None = None,
        *,
        workers: int = 1,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Interlock:
        """A gateway, with an empty home of its own unless one is given, that sends its traces to the collector."""
        return Interlock(
            home or self.home(), workers=workers, env={**self.collector.environment, **(env or {})}, options=options
        )

    def body(self, *messages: bytes) -> Path:
        """A file with these framed requests."""
        path = self.folder / f"body-{next(self._numbers)}"
        path.write_bytes(b"".join(messages))
        return path

    def target(self, port: int, *messages: bytes) -> Target:
        """Load from the other core to this port: the messages in turn; none: digits requests."""
        return Target(port, self.body(*(messages or (bodies.digits(MODEL),))), pin(LOAD), self.most_late_ms)
