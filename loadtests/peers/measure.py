"""The measurement: every server under every number of streams, in turn, several times, so that what drifts hits all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from pathlib import Path

from loadtests.bench import h2load
from loadtests.bench.servers import Server, ServerFailed
from loadtests.peers.probe import Expected, Probe
from loadtests.peers.processes import CpuWindow, Watched

PROBE_STREAMS, PROBE_S = 32, 1.0
# h2load warms up for 0.3 s; the CPU window lies well within what it measures afterwards.
WARM_UP_S = 0.3
# A sample is made in turns of about a second, one contender after the other: what disturbs a machine then hits all alike.
TURN_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    streams: tuple[int, ...]
    repetitions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server. ``family`` is its row in the table: of a peer's settings the best one counts."""

    family: str
    server: Server
    watched: Watched
    is_model: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: requests a second, CPU microseconds a request of the server, and of what runs beside it."""

    rate: float
    cpu_us: float
    beside_us: float = 0.0

    @classmethod
    def mean(cls, turns: Sequence[Sample]) -> Sample:
        """Of turns of the same length."""
        return cls(*(statistics.fmean(values) for values in zip(*map(astuple, turns), strict=True)))


Samples = dict[str, dict[int, list[Sample]]]


@dataclass(slots=True)
class Contest:
    """Servers that were started, and how many requests each must have answered when it is stopped."""

    stack: ExitStack
    body: Path
    expected: Expected
    contenders: list[Contender] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)

    def enter(self, contender: Contender) -> None:
        """Takes a started server over: it is stopped, and its own count checked, when the stack is left."""
        server = contender.server
        self.contenders.append(contender)
        self.answered[server.name] = 0
        self.stack.push(lambda kind, value, trace: self._leave(server, is_done=kind is None))

    def _leave(self, server: Server, *, is_done: bool) -> None:
        try:
            server.finish(self.answered[server.name] if is_done else 0)
        except ServerFailed:
            if is_done:  # else the first error is the one to tell
                raise

    def check(self) -> dict[str, int]:
        """Loads each server for a moment while a client checks its answers; how many were right. Raises ServerFailed."""
        right = {}
        for contender in self.contenders:
            server = contender.server
            if contender.is_model:
                with Probe(server.name, server.port, self.expected) as probe:
                    self._load(contender, PROBE_STREAMS, PROBE_S)
                right[server.name] = probe.answered
                self.answered[server.name] += probe.answered
        return right

    def measure(self, plan: Plan, say: Callable[[str], None]) -> Samples:
        """By server and streams, one sample a repetition."""
        count = max(round(plan.seconds / TURN_S), 1)
        samples: Samples = {contender.server.name: {m: [] for m in plan.streams} for contender in self.contenders}
        for repetition in range(plan.repetitions):
            for streams in plan.streams:
                turns: dict[str, list[Sample]] = {name: [] for name in samples}
                for contender in self.contenders * count:
                    turns[contender.server.name].append(self._sample(contender, streams, plan.seconds / count))
                for name, of_server in turns.items():
                    samples[name][streams].append(Sample.mean(of_server))
            say(f"repetition {repetition + 1} of {plan.repetitions} done")
        return samples

    def _sample(self, contender: Contender, streams: int, seconds: float) -> Sample:
        with CpuWindow(contender.watched, WARM_UP_S + 0.1 * seconds, 0.8 * seconds) as cpu:
            report = self._load(contender, streams, seconds)
        requests = report.rate * cpu.window_s
        return Sample(report.rate, cpu.server_s / requests * 1e6, cpu.beside_s / requests * 1e6)

    def _load(self, contender: Contender, streams: int, seconds: float) -> h2load.Report:
        try:
            report = h2load.load(contender.server.port, self.body, streams=streams, seconds=seconds)
        except h2load.H2loadFailed as error:
            raise h2load.H2loadFailed(f"{contender.server.name}, {streams} streams: {error}") from error
        self.answered[contender.server.name] += report.succeeded
        return report
