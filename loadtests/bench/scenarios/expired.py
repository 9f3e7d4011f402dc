"""What expired work costs: half of the requests expire in the queue; and how soon an endless run ends after its deadline."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.protocol.messages import admin
from loadtests.bench import bodies, model_files
from loadtests.bench.gauges import Sampler, cpu_s, spent
from loadtests.bench.load import DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, Answers, LoadFailed, Target
from loadtests.bench.loops import PATH
from loadtests.bench.raw_http2 import OK, Connection, wait
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import Interlock
from loadtests.bench.stand import Stand

BUSY, BUSY_MS = "busy", 10.0
DEPTH = 6  # patient requests on their way: the queue is always about five runs long
PATIENCE_MS = 20  # of the others: two runs
ENDLESS, ENDLESS_MS = "endless", 300
PAIRS, TURN_S = 4, 1.5  # a repetition's turns without and with impatient requests
LEAD_S = 0.5  # by which the patient begin earlier and end later
NOBODY = Answers(*(np.empty(0) for _ in range(4)))
SAMPLE_S, IDLE_SHARE, GIVE_UP_S = 0.005, 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement: CPU of the worker per OK answer, runs for nobody, and what became of the impatient."""

    cpu_ms: float
    wasted_runs: float
    impatient: Answers
    failures: int  # of the patient


@dataclass(frozen=True, slots=True)
class Expired:
    """See the module. ``trials`` of the endless run."""

    trials: int = 12
    name: str = "expired"
    about: str = "as many requests expire in the queue of a 10 ms model as are answered; an endless loop with a deadline"
    goals: Sequence[Goal] = (
        Goal("cpu_share", "of the worker's CPU spent on expired requests", at_most=0.02),
        Goal("wasted_runs_share", "of the runs were for nobody", at_most=0.02),
        Goal(
            "endless_stop_ms_max",
            "ms from the deadline of an endless run until its thread is free and the CPU idle",
            at_most=50,
        ),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        file, run_ms = model_files.busy(stand.folder / "busy.onnx", BUSY_MS)
        with stand.gateway() as gateway:
            gateway.deploy(BUSY, file)
            # A queue that stands is what is wanted here; by default a part of it would be refused, the patient too.
            gateway.admin.configure(BUSY, batching=admin.Batching(queue_target_us=0)).result()
            gateway.deploy(ENDLESS, model_files.looping(stand.folder / "endless.onnx", None))
            message = bodies.infer(BUSY, {model_files.INPUT: np.ones((1, model_files.BUSY_COLUMNS), np.float32)})
            target = stand.target(gateway.port, message)
            rate = target.closed(stand.seconds(2), depth=DEPTH).rate()
            without: list[Turn] = []
            beside: list[Turn] = []
            for turn in range(PAIRS * stand.repetitions):
                for offered, turns in ((0.0, without), (rate, beside)):
                    measure = functools.partial(_turn, gateway, target, offered, stand.seconds(TURN_S), turn)
                    turns.append(stand.in_time(measure))
            stops = _endless_stops_ms(gateway, self.trials)
        alone_ms = statistics.median(turn.cpu_ms for turn in without)
        beside_ms = statistics.median(turn.cpu_ms for turn in beside)
        impatient = Answers.joined([turn.impatient for turn in beside])
        figures = {
            "run_ms": run_ms,
            "offered_per_s": 2 * rate,
            "expired_share": 1 - impatient.ok.count / max(1, impatient.count),
            "patient_failures": float(sum(turn.failures for turn in (*without, *beside))),
            "cpu_ms_per_answer": alone_ms,
            "cpu_ms_per_answer_with_expiring": beside_ms,
            "cpu_share": max(0.0, 1 - statistics.median(map(_ratio, without, beside))),
            "wasted_runs_share": statistics.median(turn.wasted_runs for turn in beside),
            "endless_stop_ms": statistics.median(stops),
            "endless_stop_ms_max": max(stops),
        }
        rows = [["all patient", f"{alone_ms:.2f}"], ["as many that expire", f"{beside_ms:.2f}"]]
        expired, refused = (impatient.count_of(status) for status in (DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED))
        note = (
            f"Of {impatient.count:,} impatient requests {impatient.ok.count:,} were answered, {expired:,} expired, "
            f"and {refused:,} were refused as soon as they came, as they were bound to expire; of the patient "
            f"{figures['patient_failures']:.0f} failed."
        )
        return Result(figures, [Grid("", ["requests", "worker CPU per OK answer, ms"], rows)], [note])


def _ratio(without: Turn, beside: Turn) -> float:
    """Of two turns that followed each other: the machine's pace is nearly the same in both."""
    return without.cpu_ms / beside.cpu_ms


def _turn(gateway: Interlock, target: Target, rate: float, seconds: float, seed: int) -> Turn:
    before = gateway.settled(BUSY)
    with Sampler(lambda: cpu_s(gateway.worker)) as cpu:
        patient = target.load("closed", [(0.0, seconds + 2 * LEAD_S)], depth=DEPTH)
        try:
            time.sleep(LEAD_S)
            options = {"timeout_ms": PATIENCE_MS, "is_random": True, "seed": seed}
            impatient = target.load("open", [(rate, seconds)], **options).wait() if rate else NOBODY
            answers = patient.wait()
        finally:
            patient.stop()
    after = gateway.settled(BUSY)
    runs = after.execution_count - before.execution_count
    answered = after.inference_stats.success.count - before.inference_stats.success.count
    # CPU and answers of the time in which both were there.
    of = impatient if impatient.count else answers
    start, end = of.due_s[0], of.due_s[-1]
    ok = sum(np.count_nonzero((one.ok.ends_s >= start) & (one.ok.ends_s < end)) for one in (answers, impatient))
    return Turn(
        spent(cpu.samples, start, end) / max(1, ok) * 1000,
        max(0, runs - answered) / max(1, runs),
        impatient,
        answers.count - answers.ok.count,
    )


def _endless_stops_ms(gateway: Interlock, trials: int) -> list[float]:
    """Per trial: from the deadline of an endless run until the next request was answered, or the CPU idle, if that is later."""
    state = np.ones((1, model_files.BUSY_COLUMNS), np.float32)

    def message(rounds: int) -> bytes:
        return bodies.infer(ENDLESS, {model_files.INPUT: state, model_files.ROUNDS: np.array(rounds, np.int64)})

    endless = Connection(gateway.port, PATH, [message(model_files.ENDLESS)], timeout_ms=ENDLESS_MS)
    short = Connection(gateway.port, PATH, [message(1)])
    stops = []
    for _ in range(trials):
        due = time.perf_counter()
        endless.call(due)
        wait([endless], 0.05)  # it runs
        short.call(time.perf_counter())
        busy_until = _busy_until(gateway.worker, [endless, short], due + ENDLESS_MS / 1000)
        while endless.unanswered or short.unanswered:
            wait([endless, short], 1.0)
        _expect(endless, DEADLINE_EXCEEDED)
        _, answered, _ = _expect(short, OK)
        stops.append((max(answered, busy_until) - due) * 1000 - ENDLESS_MS)
    for connection in (endless, short):
        connection.abandon(time.perf_counter(), OK)
    return stops


def _busy_until(pid: int, connections: Sequence[Connection], deadline: float) -> float:
    """When the process began to be idle (less than half of a core for two intervals on end), ``deadline`` or later."""
    cpu, at, idle_since, idles = cpu_s(pid), time.perf_counter(), 0.0, 0
    while idles < 2 and at < deadline + GIVE_UP_S:
        wait(connections, 0)
        time.sleep(SAMPLE_S)
        now_cpu, now = cpu_s(pid), time.perf_counter()
        if at < deadline or now_cpu - cpu > IDLE_SHARE * (now - at):
            idle_since, idles = now, 0
        else:
            idles += 1
        cpu, at = now_cpu, now
    return idle_since


def _expect(connection: Connection, status: int) -> tuple[float, float, int]:
    if not connection.finished or connection.finished[-1][2] != status:
        raise LoadFailed(f"expected an answer with status {status}, got {connection.finished[-1:]}")
    return connection.finished.pop()
