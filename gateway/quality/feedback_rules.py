"""The rules for one item of feedback, independent of the prediction log. Pure."""

from __future__ import annotations

import math

from gateway.contract.feedback import Feedback

MAX_TEXT = 1024  # characters of an id, key, label or source
MAX_TIME_MS = 253_402_300_800_000  # the year 10000, where protobuf's timestamps end


def problem(item: Feedback) -> str:
    """Returns why the item is invalid by itself, with the field's name; empty for a valid item."""
    if bool(item.prediction_id) == bool(item.inference_id):
        return "prediction: expected either prediction_id or inference_id"
    if (item.label is None) == (item.value is None):
        return "truth: expected either label or value"
    if item.value is not None and not math.isfinite(item.value):
        return f"value: expected a finite number, got {item.value}"
    if item.row < 0:
        return f"row: expected 0 or more, got {item.row}"
    if item.observed_ms is not None and not -MAX_TIME_MS < item.observed_ms < MAX_TIME_MS:
        return "observed_at: expected a time before the year 10000"
    return _too_long(item)


def _too_long(item: Feedback) -> str:
    texts = {"inference_id": item.inference_id, "label": item.label or "", "source": item.source}
    for field, text in {**texts, "idempotency_key": item.idempotency_key}.items():
        if len(text) > MAX_TEXT:
            return f"{field}: expected at most {MAX_TEXT} characters, got {len(text)}"
    return ""
