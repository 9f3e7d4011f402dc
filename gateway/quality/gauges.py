"""Live quality as rows of figures for /metrics."""

from __future__ import annotations

from typing import Protocol

from gateway.quality.metrics import VersionQuality


class QualitySource(Protocol):
    """What `PredictionLog` gives here."""

    def quality_of_all(self, window_s: float) -> tuple[tuple[str, VersionQuality], ...]:
        """(model, quality) of every version and arm over the last ``window_s`` seconds; 0 = all."""
        ...


def quality_gauges(log: QualitySource, window_s: float = 3600.0) -> list[tuple[str, int, str, dict[str, float]]]:
    """
    (model, version, arm, figures) over predictions of the last ``window_s`` seconds. Figures are predictions, labelled,
    coverage, corrections, not_finite and, as far as there are labels, accuracy, precision_macro, recall_macro, f1_macro,
    f1_micro for classes or mae, rmse, bias, r2 for numbers. Reads the log's file: keep the answer for some seconds.
    """
    return [(model, one.version, one.arm, figures(one)) for model, one in log.quality_of_all(window_s)]


def figures(quality: VersionQuality) -> dict[str, float]:
    """The figures that are known, by name."""
    known: dict[str, float | None] = {
        "predictions": quality.predictions,
        "labelled": quality.labelled,
        "coverage": quality.coverage,
        "corrections": quality.corrections,
        "not_finite": quality.not_finite,
    }
    classes, values = quality.class_report, quality.value_report
    if classes:
        names = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro")
        known |= {name: getattr(classes, name) for name in names}
    if values:
        known |= {"mae": values.mae, "rmse": values.rmse, "bias": values.bias, "r2": values.r2}
    return {name: float(value) for name, value in known.items() if value is not None}
