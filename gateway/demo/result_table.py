"""The table at the end of the demo: what callers saw and what the gateway measured, side by side per version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from gateway.demo.callers import Seen
from gateway.protocol.messages import admin


@dataclass(frozen=True, slots=True)
class Measured:
    """Live quality of one version over all its arms: ``accuracy`` and macro ``f1`` of ``labelled`` predictions."""

    labelled: int
    accuracy: float
    f1: float


def measured(quality: admin.Quality) -> dict[str, Measured]:
    """Returns quality by version, from the confusion matrices that the gateway keeps per arm, without the shadow's."""
    cells: dict[str, Counter[tuple[str, str]]] = {}
    for version in quality.versions:
        if version.arm != "shadow" and version.labelled:
            counts = cells.setdefault(str(version.version), Counter())
            for cell in version.confusion:
                counts[cell.truth, cell.predicted] += cell.count
    return {version: _measured(counts) for version, counts in cells.items()}


def _measured(cells: Mapping[tuple[str, str], int]) -> Measured:
    labels = {label for pair in cells for label in pair}
    truths = {label: sum(n for (truth, _), n in cells.items() if truth == label) for label in labels}
    guesses = {label: sum(n for (_, guess), n in cells.items() if guess == label) for label in labels}
    right = {label: cells.get((label, label), 0) for label in labels}
    total = sum(cells.values())
    f1 = [2 * right[label] / max(1, truths[label] + guesses[label]) for label in labels]
    return Measured(total, sum(right.values()) / max(1, total), float(np.mean(f1)) if f1 else 0.0)


def agreement(status: admin.Status, version: str) -> float | None:
    """Returns the share of the primary's answers that the version, as a shadow, gave too; None if it never was one."""
    for model in status.models:
        for row in model.versions:
            if str(row.version) == version and row.shadow_compared:
                return 1 - row.shadow_disagreed / row.shadow_compared
    return None


def errors_by_version(status: admin.Status) -> dict[str, int]:
    """Returns the failed requests that the gateway itself counted."""
    return {str(row.version): row.errors for model in status.models for row in model.versions}


def final_table(names: Mapping[str, str], seen: Seen, quality: admin.Quality, status: admin.Status) -> Table:
    """Returns a table with one row per version of ``names``."""
    table = Table(title="What happened, per version")
    for column in ("version", "requests", "errors", "p50", "p99", "live accuracy", "live F1", "agreement with the primary"):
        table.add_column(column, justify="left" if column == "version" else "right")
    found, errors = measured(quality), errors_by_version(status)
    for version, name in names.items():
        live, agrees = found.get(version), agreement(status, version)
        p50, p99 = _quantiles_ms(seen.latencies_s.get(version, ()))
        table.add_row(
            f"v{version} {name}",
            str(seen.answers[version]),
            str(errors.get(version, 0)),
            p50,
            p99,
            f"{live.accuracy:.1%}" if live else "–",
            f"{live.f1:.3f}" if live else "–",
            "–" if agrees is None else f"{agrees:.1%} (as shadow)",
        )
    return table


def _quantiles_ms(latencies_s: Iterable[float]) -> tuple[str, str]:
    values = list(latencies_s)
    if not values:
        return "–", "–"
    p50, p99 = np.quantile(values, (0.5, 0.99)) * 1000
    return f"{p50:.1f} ms", f"{p99:.1f} ms"
