"""The limits of a scenario, and whether a run kept them. Pure: counts, codes, shares and seconds in, problems out."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCENARIOS = Path(__file__).with_name("scenarios.toml")
Z_99_9 = 3.29  # two-sided 99.9 % of the normal distribution


@dataclass(frozen=True, slots=True)
class Limits:
    """
    ``failures``: failed calls at most, each with one of ``failure_codes`` (empty: any). ``wrong_answers``: answers at most
    that are not what the version they name gives. ``stale_answers``: at most so many answers from a version replaced before
    the call began. ``shares``: per version, the traffic's share must be within the binomial 99.9 % interval. ``back_within_s``:
    seconds from the kill to the last failure, and to all workers serving. ``fewest_changes``: so many must have been made.
    ``longest_wait_s``: seconds that a call may take.
    """

    failures: int = 0
    failure_codes: tuple[str, ...] = ()
    wrong_answers: int = 0
    stale_answers: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    back_within_s: float | None = None
    fewest_changes: int = 0
    longest_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One entry of scenarios.toml."""

    name: str
    about: str
    users: int
    rate: float
    duration_s: float
    before: tuple[str, ...]
    during: Mapping[str, Any]
    limits: Limits


@dataclass(slots=True)
class Outcome:
    """The measurements of a run."""

    answers: dict[str, int] = field(default_factory=dict)  # by version
    failures: dict[str, int] = field(default_factory=dict)  # by gRPC code
    wrong_answers: int = 0
    stale_answers: int = 0
    changes: int = 0
    change_ms: list[float] = field(default_factory=list)
    rollback_ms: list[float] = field(default_factory=list)
    last_failure_s: float = 0.0  # after the kill
    back_s: float = 0.0  # after the kill, all workers serving again
    crashes: dict[str, int] = field(default_factory=dict)  # gRPC codes of requests that end a process
    longest_wait_s: float = 0.0


def scenarios() -> dict[str, Scenario]:
    """Returns all scenarios by name."""
    return {name: _scenario(name, entry) for name, entry in tomllib.loads(SCENARIOS.read_text()).items()}


def _scenario(name: str, entry: dict[str, Any]) -> Scenario:
    limits = dict(entry.pop("limits"))
    limits["failure_codes"] = tuple(limits.get("failure_codes", ()))
    return Scenario(name, before=tuple(entry.pop("before")), during=entry.pop("during", {}), limits=Limits(**limits), **entry)


def problems(limits: Limits, outcome: Outcome) -> list[str]:
    """Returns every limit that was not kept, in words; empty if all were."""
    found = []
    failures, total = sum(outcome.failures.values()), sum(outcome.answers.values())
    if failures > limits.failures:
        found.append(f"{failures} calls failed ({_counts(outcome.failures)}), allowed are {limits.failures}")
    strange = [code for code in outcome.failures if limits.failure_codes and code not in limits.failure_codes]
    if strange:
        found.append(f"calls failed with {', '.join(strange)}, allowed is only {', '.join(limits.failure_codes)}")
    if outcome.wrong_answers > limits.wrong_answers:
        found.append(
            f"{outcome.wrong_answers} answers are not what the version they name gives, allowed are {limits.wrong_answers}"
        )
    if outcome.stale_answers > limits.stale_answers:
        found.append(f"{outcome.stale_answers} answers came from a replaced version, allowed are {limits.stale_answers}")
    if outcome.changes < limits.fewest_changes:
        found.append(f"{outcome.changes} changes were made, expected at least {limits.fewest_changes}")
    for version, share in limits.shares.items():
        got, margin = outcome.answers.get(version, 0) / max(1, total), Z_99_9 * math.sqrt(share * (1 - share) / max(1, total))
        if abs(got - share) > margin:
            found.append(f"version {version} got {got:.2%} of {total} calls, expected {share:.0%} ± {margin:.2%}")
    found += _late(limits, outcome)
    if not total:
        found.append("no call was answered")
    return found


def _late(limits: Limits, outcome: Outcome) -> list[str]:
    found = []
    if limits.back_within_s is not None and max(outcome.back_s, outcome.last_failure_s) > limits.back_within_s:
        found.append(
            f"after the kill the last call failed at {outcome.last_failure_s:.2f} s and all workers served "
            f"at {outcome.back_s:.2f} s, allowed are {limits.back_within_s:g} s"
        )
    if limits.longest_wait_s is not None and outcome.longest_wait_s > limits.longest_wait_s:
        found.append(f"a call took {outcome.longest_wait_s:.2f} s, allowed are {limits.longest_wait_s:g} s")
    return found


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
