"""Makers of ids, batches and verdicts for the quality tests, and a clock that they can move."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.feedback import Feedback, VerdictKind
from gateway.contract.predictions import PredictionBatch
from gateway.quality.log import PredictionLog
from gateway.quality.prediction_id import parse, prefix

EPOCH = 4242
START_S = 1_800_000_000.0


class MovableClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time_s = START_S

    def now(self) -> float:
        return self.time_s

    def monotonic(self) -> float:
        return self.time_s

    def advance(self, seconds: float) -> None:
        self.time_s += seconds


def id_at(counter: int, *, time_s: float = START_S, epoch: int = EPOCH) -> str:
    return f"{prefix(int(time_s * 1000), epoch)}{counter:012x}"


def batch_of(
    ids: Sequence[str], kind: str, rows: Sequence[int], *, arms: Sequence[str] = (), own: Sequence[str] = (), **more: object
) -> PredictionBatch:
    """A batch with these ids, all of one epoch."""
    n = len(ids)
    parts = [one for one in map(parse, ids) if one is not None]
    facts: dict[str, object] = {"model": "m", "version": 1, **more}
    return PredictionBatch(
        arms=tuple(arms) or ("default",) * n,
        kind=kind,
        epoch=parts[0].epoch,
        times_ms=tuple(one.time_ms for one in parts),
        counters=tuple(one.counter for one in parts),
        inference_ids=tuple(own) or ("",) * n,
        rows=tuple(rows),
        **facts,  # type: ignore[arg-type]
    )


def classes(
    ids: Sequence[str],
    labels: Sequence[str],
    *,
    own: Sequence[str] = (),
    arm: str = "default",
    version: int = 1,
    model: str = "m",
) -> PredictionBatch:
    """A batch of one-row requests to a classifier."""
    n = len(ids)
    facts = {"model": model, "version": version, "labels": tuple(labels)}
    return batch_of(ids, "class", (1,) * n, arms=(arm,) * n, own=own, **facts)


def values(ids: Sequence[str], numbers: Sequence[float], *, version: int = 1, model: str = "m") -> PredictionBatch:
    """A batch of one-row requests to a regressor."""
    return batch_of(ids, "value", (1,) * len(ids), model=model, version=version, numbers=tuple(numbers))


def verdict(log: PredictionLog, item: Feedback) -> VerdictKind:
    """The verdict on one item."""
    return log.accept([item])[0].kind


def kinds(log: PredictionLog, items: Sequence[Feedback]) -> list[VerdictKind]:
    """The verdicts on items of one call."""
    return [one.kind for one in log.accept(items)]
