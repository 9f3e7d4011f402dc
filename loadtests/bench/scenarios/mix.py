"""A slow model and digits on one worker, both loaded: what the slow one costs the callers of the fast one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from loadtests.bench import bodies, model_files
from loadtests.bench.load import Answers, Target
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL
from loadtests.bench.stand import Stand

SLOW, SLOW_MS = "slow", 30.0
SLOW_SHARE = 0.2  # of the core that the slow model's runs take
FAST_SHARE = 1 / 3  # of the rate that digits alone can carry in full batches: in small ones, most of what is left of the core
TURNS, TURN_S = 3, 2.0  # a repetition's, in alternation: the machine's moods outlast them
ALONE, BESIDE, SATURATED = "alone", "beside the slow model", "beside the slow model at its limit"


@dataclass(frozen=True, slots=True)
class Mix:
    """See the module."""

    name: str = "mix"
    about: str = "a 30 ms model and digits on one worker, both loaded, open loop"
    goals: Sequence[Goal] = (
        Goal("p99_ratio", "× digits' own p99 at the same rate", at_most=2.0),
        Goal("failures", "failed calls", at_most=0),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        file, run_ms = model_files.busy(stand.folder / "slow.onnx", SLOW_MS)
        with stand.gateway() as gateway:
            gateway.deploy(MODEL, stand.digits())
            gateway.deploy(SLOW, file)
            fast = stand.target(gateway.port)
            slow_input = np.ones((1, model_files.BUSY_COLUMNS), np.float32)
            slow = stand.target(gateway.port, bodies.infer(SLOW, {model_files.INPUT: slow_input}))
            rate = median(fast.closed(stand.seconds(1), depth=32).rate() for _ in range(3)) * FAST_SHARE
            slow_rate = SLOW_SHARE * 1000 / run_ms
            parts: dict[str, list[Answers]] = {ALONE: [], BESIDE: [], SATURATED: []}
            slows: dict[str, list[Answers]] = {BESIDE: [], SATURATED: []}
            for turn in range(TURNS * stand.repetitions):
                for name in parts:
                    both = partial(_both, fast, slow, name, rate, slow_rate, stand.seconds(TURN_S), seed=turn)
                    answers, slow_answers = stand.in_time(both)
                    parts[name].append(answers)
                    if slow_answers is not None:
                        slows[name].append(slow_answers)
        return _result(parts, slows, rate, slow_rate, run_ms)


def _both(
    fast: Target, slow: Target, name: str, rate: float, slow_rate: float, seconds: float, *, seed: int
) -> tuple[Answers, Answers | None]:
    """Digits at its rate, with what ``name`` says beside it."""
    beside = None
    if name == BESIDE:
        beside = slow.load("open", [(slow_rate, seconds + 1)])
    elif name == SATURATED:
        beside = slow.load("closed", [(0.0, seconds + 1)], depth=2)
    try:
        answers = fast.open(rate, seconds, is_random=True, seed=seed)
        if beside is None:
            return answers, None
        slow_answers = beside.wait()
        # Only while both were there: processes start a little apart.
        return answers.between(slow_answers.due_s[0], slow_answers.ends_s[-1]), slow_answers
    finally:
        if beside is not None:
            beside.stop()


def _result(
    parts: dict[str, list[Answers]], slows: dict[str, list[Answers]], rate: float, slow_rate: float, run_ms: float
) -> Result:
    joined = {name: Answers.joined(several) for name, several in parts.items()}
    slow = {name: Answers.joined(several) for name, several in slows.items()}
    figures = {
        "offered_per_s": rate,
        "slow_offered_per_s": slow_rate,
        "slow_run_ms": run_ms,
        "p99_ms_alone": joined[ALONE].ok.p99_ms,
        "p99_ms_beside": joined[BESIDE].ok.p99_ms,
        "p50_ms_alone": joined[ALONE].ok.p50_ms,
        "p50_ms_beside": joined[BESIDE].ok.p50_ms,
        "p99_ratio": joined[BESIDE].ok.p99_ms / joined[ALONE].ok.p99_ms,
        "p99_ratio_saturated": joined[SATURATED].ok.p99_ms / joined[ALONE].ok.p99_ms,
        "slow_p99_ms": slow[BESIDE].ok.p99_ms,
        "slow_per_s_saturated": slow[SATURATED].rate(),
        "failures": float(sum(sum(one.failures.values()) for one in (*joined.values(), *slow.values()))),
    }
    rows = [
        [f"digits {name}", f"{rate:,.0f}", f"{answers.ok.p50_ms:.2f}", f"{answers.ok.p99_ms:.2f}"]
        for name, answers in joined.items()
    ]
    rows += [
        [f"slow model ({run_ms:.0f} ms a run){' at its limit' if name == SATURATED else ''}",
         f"{answers.rate():,.0f}", f"{answers.ok.p50_ms:.1f}", f"{answers.ok.p99_ms:.1f}"]
        for name, answers in slow.items()
    ]  # fmt: skip
    return Result(figures, [Grid("", ["", "requests/s", "p50 ms", "p99 ms"], rows)])
