"""
Overload: open loops from half of what a model can carry to three times that, and the way back.

Once with a model that costs clearly more than the gateway does, which has a line and is refused; and once with digits, where
the gateway's own cost is what runs out: nothing is refused, and what is more than a connection may carry waits in the client.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.bench import bodies, model_files
from loadtests.bench.figures import Level, knee, recovered_after_s
from loadtests.bench.load import MOST_LATE_MS, RESOURCE_EXHAUSTED, Answers, Target
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL
from loadtests.bench.stand import Stand

BUSY, BUSY_MS = "busy", 3.0
FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
DIGITS_FACTORS = (0.5, 1.0, 1.5, 3.0)
HALF, MOST = 0.5, 3.0
SWEEPS, DIGITS_SWEEPS = 2, 4
WAYS_BACK = 2  # as with the sweeps, the better one counts: neighbours of the machine hold up calls, never hasten them
STILL_IN_TIME_S = 0.05  # an answer so long after the last call was due still counts as goodput
NORMAL = 2.0  # × the p99 at half load before: what "back to normal" means
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One offered rate: a multiple of the capacity, and what became of it."""

    factor: float
    level: Level
    answers: Answers

    @property
    def refused(self) -> Answers:
        """Those answered with RESOURCE_EXHAUSTED."""
        return self.answers.with_status(RESOURCE_EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Overload:
    """See the module."""

    name: str = "overload"
    about: str = "open loops with random arrivals at 0.5 to 3 times the capacity of a model of about 3 ms a run"
    goals: Sequence[Goal] = (
        Goal("goodput_ratio_3x", "of the peak goodput at 3 × capacity", at_least=0.9),
        Goal("p99_ratio_3x", "× the knee's p99 for those accepted at 3 × capacity", at_most=2.0),
        Goal("refusal_p99_ms", "ms until a refusal is answered, p99 at 3 × capacity", at_most=10.0),
        Goal("back_after_s", f"s after the overload until p99 at half load is within {NORMAL:g} × what it was", at_most=5.0),
        Goal("other_failures", "calls that neither succeeded nor were refused with RESOURCE_EXHAUSTED", at_most=0),
        Goal("digits_goodput_ratio_3x", "of digits' peak goodput at 3 × its capacity", at_least=0.9),
        Goal("digits_failures", "failed calls of digits", at_most=0),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        file, run_ms = model_files.busy(stand.folder / "busy.onnx", BUSY_MS)
        with stand.gateway() as gateway:
            gateway.deploy(BUSY, file)
            gateway.deploy(MODEL, stand.digits())
            ones = np.ones((1, model_files.BUSY_COLUMNS), np.float32)
            target = stand.target(gateway.port, bodies.infer(BUSY, {model_files.INPUT: ones}))
            capacity = target.closed(stand.seconds(4), depth=8).rate()
            steps = _swept(target, capacity, FACTORS, SWEEPS, stand.seconds(6))
            stand.say("the way back")
            back = min(stand.in_time(lambda: _way_back(target, capacity, stand)) for _ in range(WAYS_BACK))
            digits = stand.target(gateway.port)
            digits_capacity = digits.closed(stand.seconds(2), depth=32).rate()
            digits_steps = _swept(digits, digits_capacity, DIGITS_FACTORS, DIGITS_SWEEPS, stand.seconds(1.5))
        figures = {"capacity_per_s": capacity, "run_ms": run_ms, "digits_capacity_per_s": digits_capacity, "back_after_s": back}
        figures |= _figures(steps) | _digits_figures(digits_steps)
        grids = [_grid(f"a model of {run_ms:.1f} ms", capacity, steps), _grid("digits", digits_capacity, digits_steps)]
        return Result(figures, grids, _notes(steps))


def _swept(target: Target, capacity: float, factors: Sequence[float], sweeps: int, seconds: float) -> list[Step]:
    """Every factor in turn, and all of them again: a busy machine makes a step slower and never faster."""
    rounds = [[_step(target, capacity, factor, seconds) for factor in factors] for _ in range(sweeps)]
    return [_joined(several) for several in zip(*rounds, strict=True)]


def _joined(steps: Sequence[Step]) -> Step:
    """The same step several times as one: the best goodput, and the latencies of all."""
    answers = Answers.joined([step.answers for step in steps])
    best = max(steps, key=lambda step: step.level.goodput / step.level.offered)
    return Step(best.factor, Level(best.level.offered, best.level.goodput, answers.ok.p99_ms), answers)


def _step(target: Target, capacity: float, factor: float, seconds: float) -> Step:
    load = target.load("open", [(factor * capacity, seconds)], is_random=True, seed=int(factor * 100), drain_s=DRAIN_S)
    answers = load.wait(may_be_late=True)
    time.sleep(0.5)
    return Step(factor, _level(answers), answers)


def _level(answers: Answers) -> Level:
    length_s = float(answers.due_s[-1] - answers.due_s[0])
    in_time = np.count_nonzero(answers.ok.ends_s <= answers.due_s[-1] + STILL_IN_TIME_S)
    return Level(answers.count / length_s, float(in_time / length_s), answers.ok.p99_ms)


def _way_back(target: Target, capacity: float, stand: Stand) -> float:
    """Seconds from the end of a time at 3 × until the p99 at half load is what it was before it."""
    parts = [(HALF * capacity, stand.seconds(4)), (MOST * capacity, stand.seconds(4)), (HALF * capacity, stand.seconds(8))]
    answers = target.load("open", parts, is_random=True, drain_s=DRAIN_S).wait()
    begin = float(answers.due_s[0])
    over_s = begin + parts[0][1] + parts[1][1]
    normal_ms = NORMAL * answers.between(begin, begin + parts[0][1]).ok.p99_ms
    after = answers.between(over_s, np.inf)
    # A call that failed is not back to normal either.
    latency_ms = np.where(after.status == 0, after.latency_ms, np.inf)
    return recovered_after_s(after.due_s, latency_ms, since_s=over_s, normal_ms=normal_ms)


def _figures(steps: Sequence[Step]) -> dict[str, float]:
    most = steps[-1]
    peak = max(step.level.goodput for step in steps)
    bend = knee([step.level for step in steps])
    figures = {f"goodput_per_s_{step.factor:g}x": step.level.goodput for step in steps}
    figures |= {f"p99_ms_{step.factor:g}x": step.level.p99_ms for step in steps}
    figures |= {
        "goodput_ratio_3x": most.level.goodput / peak,
        "refusal_p99_ms": most.refused.p99_ms,
        "other_failures": float(
            sum(count for step in steps for status, count in step.answers.failures.items() if status != RESOURCE_EXHAUSTED)
        ),
    }
    if bend is not None:
        figures |= {"knee_per_s": bend.offered, "knee_p99_ms": bend.p99_ms, "p99_ratio_3x": most.level.p99_ms / bend.p99_ms}
    return figures


def _digits_figures(steps: Sequence[Step]) -> dict[str, float]:
    figures = {f"digits_goodput_per_s_{step.factor:g}x": step.level.goodput for step in steps}
    return figures | {
        "digits_goodput_ratio_3x": steps[-1].level.goodput / max(step.level.goodput for step in steps),
        "digits_failures": float(sum(sum(step.answers.failures.values()) for step in steps)),
    }


def _grid(title: str, capacity: float, steps: Sequence[Step]) -> Grid:
    columns = ["offered", "a second", "goodput", "p50 ms", "p99 ms", "refused", "refusal p99 ms", "other", "client late p99 ms"]
    rows = []
    for step in steps:
        refused, answers = step.refused, step.answers
        rows.append(
            [
                f"{step.factor:g} ×", f"{step.level.offered:,.0f}", f"{step.level.goodput:,.0f}", f"{answers.ok.p50_ms:.2f}",
                f"{step.level.p99_ms:.2f}", f"{refused.count:,}", f"{refused.p99_ms:.2f}" if refused.count else "–",
                f"{answers.count - answers.ok.count - refused.count:,}", f"{answers.late_p99_ms:.2f}",
            ]
        )  # fmt: skip
    return Grid(f"{title}: capacity {capacity:,.0f} a second in a closed loop", columns, rows)


def _notes(steps: Sequence[Step]) -> list[str]:
    notes = ["Digits wait in the client for a stream, which counts from when they were due."]
    if not steps[-1].refused.count:
        notes.append("No call was refused at 3 × capacity.")
    if knee([step.level for step in steps]) is None:
        notes.append("No step carried 99 % of what was offered: there is no knee.")
    late = [f"{step.factor:g} ×" for step in steps if step.answers.late_p99_ms > MOST_LATE_MS]
    if late:
        notes.append(f"The load client itself was late at {', '.join(late)}: those latencies are partly its own.")
    return notes
