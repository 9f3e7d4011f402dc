"""Live quality as tables: a row per version and arm, then classes and confusion if they are asked for."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.cli.output import duration
from gateway.cli.tables import table
from gateway.protocol.messages import admin

MANY_CLASSES = 20  # a wider confusion matrix is listed by its largest cells


def quality_view(report: admin.Quality, *, with_confusion: bool) -> RenderableType:
    """Returns the whole report."""
    span = f"predictions of the last {duration(report.window_s)}" if report.window_s else "all predictions that are kept"
    head = f"{report.model}: {span} · {100 * report.log_coverage:.0f} % are recorded · {report.pending} labels wait"
    columns = (
        "version", "arm", "predictions", "labelled", "accuracy", "F1", "precision", "recall", "MAE", "RMSE", "R²",
        "corrections",
    )  # fmt: skip
    rows = [_row(version) for version in report.versions]
    parts: list[RenderableType] = [Text(head), table("", columns, rows, empty="no predictions in this window")]
    if with_confusion:
        parts += [_confusion(version) for version in report.versions if version.confusion]
        parts += [_classes(version) for version in report.versions if version.classes]
    return Group(*parts)


def _row(version: admin.VersionQuality) -> tuple[str, ...]:
    return (
        str(version.version),
        version.arm,
        str(version.predictions),
        f"{version.labelled} ({100 * version.coverage:.0f} %)",
        *(
            f"{getattr(version, field):.4f}" if version.HasField(field) else ""
            for field in ("accuracy", "f1_macro", "precision_macro", "recall_macro")
        ),
        *(f"{getattr(version, field):.4g}" if version.HasField(field) else "" for field in ("mae", "rmse", "r2")),
        str(version.corrections or ""),
    )


def _classes(version: admin.VersionQuality) -> RenderableType:
    rows = [(c.label, f"{c.precision:.4f}", f"{c.recall:.4f}", f"{c.f1:.4f}", str(c.support)) for c in version.classes]
    title = f"version {version.version}, {version.arm}: by class"
    return table(title, ("class", "precision", "recall", "F1", "support"), rows, empty="")


def _confusion(version: admin.VersionQuality) -> RenderableType:
    labels = sorted({cell.truth for cell in version.confusion} | {cell.predicted for cell in version.confusion}, key=_order)
    title = f"version {version.version}, {version.arm}: truth down, prediction across"
    if len(labels) > MANY_CLASSES:
        wrong = sorted((c for c in version.confusion if c.truth != c.predicted), key=lambda c: -c.count)[:MANY_CLASSES]
        listed = [(cell.truth, cell.predicted, str(cell.count)) for cell in wrong]
        return table(title, ("truth", "predicted", "count"), listed, empty="nothing was confused")
    counts = {(cell.truth, cell.predicted): cell.count for cell in version.confusion}
    rows = [(truth, *(str(counts.get((truth, guess), "·")) for guess in labels)) for truth in labels]
    return table(title, ("", *labels), rows, empty="")


def _order(label: str) -> tuple[int, int, str]:
    """Sorts numbers by their size, then words."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)
