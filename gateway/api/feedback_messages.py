"""Maps ground truth and quality between messages and values."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.feedback import Feedback, Verdict
from gateway.protocol.pb import admin_pb2, feedback_pb2
from gateway.quality.feedback_rules import MAX_TIME_MS
from gateway.quality.metrics import VersionQuality


def item_of(message: feedback_pb2.FeedbackItem) -> Feedback:
    """Returns the item as a value, unchecked."""
    truth = message.WhichOneof("truth")
    return Feedback(
        prediction_id=message.prediction_id,
        inference_id=message.inference_id,
        label=message.label if truth == "label" else None,
        value=message.value if truth == "value" else None,
        row=message.row,
        source=message.source,
        observed_ms=_observed_ms(message),
        idempotency_key=message.idempotency_key,
    )


def _observed_ms(message: feedback_pb2.FeedbackItem) -> int | None:
    if not message.HasField("observed_at"):
        return None
    told = message.observed_at.seconds * 1000 + message.observed_at.nanos // 1_000_000
    return max(-MAX_TIME_MS, min(MAX_TIME_MS, told))


def result_message(verdict: Verdict) -> feedback_pb2.FeedbackResult:
    """Returns the verdict as a message."""
    return feedback_pb2.FeedbackResult(verdict=f"FEEDBACK_VERDICT_{verdict.kind.value}", detail=verdict.detail)


def quality_message(
    model: str, window_s: float, report: Sequence[VersionQuality], *, pending: int = 0, log_coverage: float = 1.0
) -> admin_pb2.Quality:
    """``report`` is `PredictionLog.quality`'s answer, ``pending`` and ``log_coverage`` the log's of the same names."""
    versions = [version_message(one) for one in report]
    return admin_pb2.Quality(model=model, window_s=window_s, versions=versions, pending=pending, log_coverage=log_coverage)


def version_message(quality: VersionQuality) -> admin_pb2.VersionQuality:
    """One version under one arm. Figures that are not known are left unset."""
    message = admin_pb2.VersionQuality(
        version=quality.version,
        arm=quality.arm,
        kind=quality.kind,
        predictions=quality.predictions,
        labelled=quality.labelled,
        coverage=quality.coverage,
        corrections=quality.corrections,
        not_finite=quality.not_finite,
    )
    _add_classes(message, quality)
    values = quality.value_report
    if values:
        message.mae, message.rmse, message.bias = values.mae, values.rmse, values.bias
        if values.r2 is not None:
            message.r2 = values.r2
    return message


def _add_classes(message: admin_pb2.VersionQuality, quality: VersionQuality) -> None:
    report = quality.class_report
    if report is None or quality.confusion is None:
        return
    message.accuracy = report.accuracy
    message.precision_macro, message.recall_macro = report.precision_macro, report.recall_macro
    message.f1_macro, message.f1_micro = report.f1_macro, report.f1_micro
    for one in report.classes:
        message.classes.add(label=one.label, precision=one.precision, recall=one.recall, f1=one.f1, support=one.support)
    for (truth, predicted), count in sorted(quality.confusion.cells.items()):
        message.confusion.add(truth=truth, predicted=predicted, count=count)
