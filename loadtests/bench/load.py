"""Load from `loops` in a process of its own, with the time and status of every call and figures of them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.bench.loops import Order, Record
from loadtests.bench.raw_http2 import OK, UNANSWERED

RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, UNIMPLEMENTED = 8, 4, 12
MOST_LATE_MS = 2.0  # p99 of the lateness of a load process that may still be believed
START_S = 60.0
_numbers = itertools.count()


class LoadFailed(Exception):
    """The load process died, or got what it must not."""


class LoadLate(LoadFailed):
    """The load process was late, so its times say nothing about the server."""


@dataclass(frozen=True, slots=True)
class Answers:
    """
    What became of calls, in the order in which they were due: ``due_s`` (`time.perf_counter` of this machine, the same in
    every process), ``latency_ms`` from then to the answer, ``status`` (gRPC's code, or one of `raw_http2`), and of open loops
    ``late_ms``, by which each call was begun too late.
    """

    due_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    status: NDArray[np.int64]
    late_ms: NDArray[np.float64]

    @classmethod
    def of(cls, record: Record) -> Answers:
        """Reads what a loop recorded."""
        order = np.argsort(record.due, kind="stable")
        latency_ms = (record.ended - record.due) * 1000
        return cls(record.due[order], latency_ms[order], record.status[order], record.late * 1000)

    def between(self, start_s: float, end_s: float) -> Answers:
        """Returns those due in this time."""
        return self._where((self.due_s >= start_s) & (self.due_s < end_s))

    def with_status(self, status: int) -> Answers:
        """Returns those with this status."""
        return self._where(self.status == status)

    def _where(self, mask: NDArray[np.bool_]) -> Answers:
        return replace(self, due_s=self.due_s[mask], latency_ms=self.latency_ms[mask], status=self.status[mask])

    @property
    def ok(self) -> Answers:
        """Returns those answered with OK."""
        return self.with_status(OK)

    @property
    def count(self) -> int:
        """Returns their number."""
        return len(self.status)

    def count_of(self, status: int) -> int:
        """Returns the number with this status."""
        return int(np.count_nonzero(self.status == status))

    @property
    def failures(self) -> dict[int, int]:
        """Counts those not answered with OK, by status."""
        codes, counts = np.unique(self.status[self.status != OK], return_counts=True)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True))

    def percentile_ms(self, percent: float) -> float:
        """Returns a percentile of the latencies; NaN if there are none."""
        return float(np.percentile(self.latency_ms, percent)) if self.count else float("nan")

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the latencies."""
        return self.percentile_ms(99)

    @property
    def p50_ms(self) -> float:
        """The median of the latencies."""
        return self.percentile_ms(50)

    @property
    def ends_s(self) -> NDArray[np.float64]:
        """Returns when each ended."""
        return self.due_s + self.latency_ms / 1000

    @property
    def late_p99_ms(self) -> float:
        """The 99th percentile of the generator's own lateness, 0 for closed loops."""
        return float(np.percentile(self.late_ms, 99)) if len(self.late_ms) else 0.0

    def rate(self, *, skip_s: float = 0.3) -> float:
        """Returns OK answers per second between the first call, a warm-up later, and the last one."""
        if self.count < 2:
            return 0.0
        start, end = self.due_s[0], self.due_s[-1]
        start += min(skip_s, (end - start) / 4)
        ends = self.ok.ends_s
        return float(np.count_nonzero((ends >= start) & (ends <= end)) / max(1e-9, end - start))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Returns several as one."""
        columns = ("due_s", "latency_ms", "status", "late_ms")
        return cls(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


class Load:
    """
    A load process; `wait` for its answers. ``pin`` is the prefix that keeps it on its core, ``most_late_ms`` the p99 of the
    generator's own lateness up to which its times are believed.
    """

    def __init__(self, order: Order, pin: Sequence[str] = (), *, most_late_ms: float = MOST_LATE_MS) -> None:
        self._order = order
        self._most_late_ms = most_late_ms
        self._file = Path(order.out).with_suffix(".order")
        self._file.write_text(json.dumps(asdict(order)))
        command = [*pin, sys.executable, "-m", "loadtests.bench.loops", str(self._file)]
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **single})

    def wait(self, *, may_be_late: bool = False) -> Answers:
        """Waits for the end of the load and returns the answers. Raises LoadFailed, also if the generator itself was late."""
        try:
            errors = self._process.communicate(timeout=self._order.seconds + self._order.drain_s + START_S)[1]
        finally:
            self.stop()
        if self._process.returncode:
            raise LoadFailed(f"the load process ended with code {self._process.returncode}: {errors.strip()[-2000:]}")
        with np.load(self._order.out) as stored:
            answers = Answers.of(Record(stored["due"], stored["ended"], stored["status"], stored["late"]))
        if answers.late_p99_ms > self._most_late_ms and not may_be_late:
            raise LoadLate(
                f"the load generator was {answers.late_p99_ms:.1f} ms late at p99 (at most {self._most_late_ms:g} ms may pass"
                " for precise): its core was busy with something else, or the rate is more than it can make"
            )
        return answers

    def stop_early(self, *, may_be_late: bool = False) -> Answers:
        """Ends the load now, as if its time were over; see `wait`."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait(may_be_late=may_be_late)

    def stop(self) -> None:
        """Ends the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Target:
    """The target of load: a port and the file with the messages."""

    port: int
    bodies: Path
    pin: Sequence[str] = ()
    most_late_ms: float = MOST_LATE_MS

    def load(self, kind: str, profile: Sequence[tuple[float, float]], **options: object) -> Load:
        """Starts load; ``options`` are fields of Order."""
        out = self.bodies.parent / f"load-{os.getpid()}-{next(_numbers)}.npz"
        order = Order(self.port, str(self.bodies), str(out), kind, tuple(profile), **options)  # type: ignore[arg-type]
        return Load(order, self.pin, most_late_ms=self.most_late_ms)

    def closed(self, seconds: float, *, depth: int, **options: object) -> Answers:
        """A closed loop with so many calls on their way, for so long."""
        return self.load("closed", [(0.0, seconds)], depth=depth, **options).wait()

    def open(self, rate: float, seconds: float, **options: object) -> Answers:
        """An open loop at a constant rate."""
        return self.load("open", [(rate, seconds)], **options).wait()


def unanswered(answers: Answers) -> int:
    """Calls that had no answer when the load ended."""
    return answers.count_of(UNANSWERED)
