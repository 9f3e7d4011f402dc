"""
The demo's callers: threads that ask for predictions of real test images, and one that sends ground truth a little later.

Everything is counted per version that served, on this side of the wire, so that the table at the end rests on what the
callers saw. Nothing is retried: a failed call counts as failed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from gateway.client import CallError, Client, Feedback, RetryPolicy, Verdict
from gateway.demo.models import INPUT, Scans

MODEL = "digits"
UNITS = 400
TRUTH_DELAY_S = 0.5
TIMEOUT_S = 10.0
ONCE = RetryPolicy(max_attempts=1)


@dataclass(slots=True)
class Seen:
    """The counts of all callers, changed under the traffic's lock. Versions are texts, as in the protocol."""

    answers: Counter[str] = field(default_factory=Counter)  # by version
    right: Counter[str] = field(default_factory=Counter)  # answers that were the digit shown, by version
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    stale: int = 0  # asked after a change was acknowledged, answered as before it
    truths: int = 0  # sent back and taken


class Callers:
    """``callers`` threads, each with its own connection, together about ``rate`` requests a second, until `stop`."""

    def __init__(self, address: str, scans: Scans, *, callers: int = 6, rate: float = 300.0) -> None:
        self.seen = Seen()
        self._address = address
        self._scans = scans
        self._pause_s = callers / rate
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._truth: deque[tuple[float, Feedback]] = deque()
        self._expected: tuple[float, frozenset[str]] | None = None
        self._by_unit: dict[str, set[str]] = defaultdict(set)
        self._threads = ThreadPoolExecutor(callers + 1, thread_name_prefix="caller")
        self._callers: list[Future[None]] = []
        self._teller: Future[None] | None = None
        self._caller_count = callers

    def start(self) -> None:
        """Starts the callers."""
        self._callers = [self._threads.submit(self._call, number) for number in range(self._caller_count)]
        self._teller = self._threads.submit(self._tell)

    def stop(self) -> None:
        """
        Ends the callers, sends the ground truth that is still due, and returns when all is sent. Raises what broke a thread.
        """
        self._stop.set()
        self._threads.shutdown()
        for thread in (*self._callers, *([self._teller] if self._teller else [])):
            thread.result()

    def expect(self, versions: Iterable[str]) -> None:
        """Allows only these versions to answer from now on, and a unit only one of them; none allows everything."""
        with self._lock:
            allowed = frozenset(versions)
            self._expected = (time.perf_counter(), allowed) if allowed else None
            self._by_unit.clear()

    def answers(self) -> Counter[str]:
        """Returns the answers so far, by the version that served."""
        with self._lock:
            return self.seen.answers.copy()

    def units(self) -> tuple[int, int]:
        """Returns (units that called since the last `expect`, units of them that got more than one version)."""
        with self._lock:
            return len(self._by_unit), sum(len(versions) > 1 for versions in self._by_unit.values())

    def _call(self, number: int) -> None:
        random = np.random.default_rng(number)
        with Client(self._address, retry=ONCE) as client:
            while not self._stop.is_set():
                began = time.perf_counter()
                self._ask(client, int(random.integers(len(self._scans.images))), f"user-{random.integers(UNITS)}")
                self._stop.wait(max(0.0, self._pause_s - (time.perf_counter() - began)))

    def _ask(self, client: Client, row: int, unit: str) -> None:
        began = time.perf_counter()
        try:
            answer = client.infer(MODEL, {INPUT: self._scans.images[row : row + 1]}, unit_id=unit, timeout_s=TIMEOUT_S)
        except CallError as error:
            with self._lock:
                self.seen.failures.append(f"{type(error).__name__}: {error}")
            return
        took_s, digit = time.perf_counter() - began, int(self._scans.digits[row])
        truth = Feedback(prediction_id=answer.prediction_id, label=digit, source="demo")
        with self._lock:
            self.seen.answers[answer.version] += 1
            self.seen.right[answer.version] += int(answer["label"][0]) == digit
            self.seen.latencies_s[answer.version].append(took_s)
            if self._expected is not None and began > self._expected[0]:
                self.seen.stale += answer.version not in self._expected[1]
                self._by_unit[unit].add(answer.version)
            self._truth.append((time.monotonic() + TRUTH_DELAY_S, truth))

    def _tell(self) -> None:
        with Client(self._address, retry=ONCE) as client:
            while not self._stop.wait(0.2):
                self._send(client, until=time.monotonic())
            wait(self._callers)
            self._send(client, until=float("inf"))

    def _send(self, client: Client, *, until: float) -> None:
        due = []
        with self._lock:
            while self._truth and self._truth[0][0] <= until:
                due.append(self._truth.popleft()[1])
        if not due:
            return
        try:
            verdicts = client.send_feedback(due, timeout_s=TIMEOUT_S)
        except CallError as error:
            with self._lock:
                self.seen.failures.append(f"feedback: {type(error).__name__}: {error}")
            return
        refused = [v for v in verdicts if v.verdict not in (Verdict.JOINED, Verdict.PENDING)]
        with self._lock:
            self.seen.truths += len(due) - len(refused)
            self.seen.failures += [f"feedback: {v.verdict} {v.detail}" for v in refused]
