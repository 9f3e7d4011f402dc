"""Scenarios: a name, goals, and a measurement whose figures are judged against them. Judging is pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loadtests.bench.stand import Stand

KEPT, MISSED, NOT_MEASURED = "kept", "missed", "not measured"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of a figure: ``at_least`` or ``at_most`` (one of them), in the figure's own unit."""

    figure: str
    about: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"goal of {self.figure}: give at_least or at_most, and not both")

    @property
    def bound(self) -> str:
        """For people, such as "≥ 0.7"."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``word`` is kept, missed or not measured; ``value`` is NaN in the last case."""

    goal: Goal
    value: float
    word: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table for people: the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a scenario measured: ``figures`` by name, the units in the names (ratios have none); ``grids`` and ``notes`` for
    people. A figure that could not be measured is left out, and a note says why.
    """

    figures: Mapping[str, float]
    grids: Sequence[Grid] = ()
    notes: Sequence[str] = field(default=())


class Scenario(Protocol):
    """One measurement with its goals."""

    name: str
    about: str
    goals: Sequence[Goal]

    def measure(self, stand: Stand) -> Result:
        """Starts what it needs, measures, stops it. Raises one of `stand.BROKEN`."""
        ...


def judge(goals: Sequence[Goal], figures: Mapping[str, float]) -> list[Verdict]:
    """Judges every goal against its figure. A figure that is missing or no number is neither kept nor missed."""
    return [_verdict(goal, figures.get(goal.figure, math.nan)) for goal in goals]


def _verdict(goal: Goal, value: float) -> Verdict:
    if math.isnan(value):
        return Verdict(goal, value, NOT_MEASURED)
    if goal.at_least is not None:
        return Verdict(goal, value, KEPT if value >= goal.at_least else MISSED)
    return Verdict(goal, value, KEPT if value <= (goal.at_most or 0.0) else MISSED)
