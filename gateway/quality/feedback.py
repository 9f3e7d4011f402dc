"""Ground truth as values: an item that says what really happened, and the verdict on it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT = 1024  # characters of an id, key, label or source
MAX_TIME_MS = 253_402_300_800_000  # the year 10000, where protobuf's timestamps end


class VerdictKind(StrEnum):
    """What became of an item; the words of protos/interlock/v1/feedback.proto."""

    JOINED = "JOINED"
    PENDING = "PENDING"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item; ``detail`` says why, for people."""

    kind: VerdictKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """
    What really happened to one row of one prediction.

    Exactly one of ``prediction_id`` and ``inference_id`` names the prediction, exactly one of ``label`` (a class) and
    ``value`` (a number) is the truth. ``observed_ms`` is Unix milliseconds, None when it was not told.
    """

    prediction_id: str = ""
    inference_id: str = ""
    label: str | None = None
    value: float | None = None
    row: int = 0
    source: str = ""
    observed_ms: int | None = None
    idempotency_key: str = ""

    @property
    def truth(self) -> str | float:
        """The label, or the value."""
        return self.label if self.label is not None else float(self.value or 0.0)


def problem(item: Feedback) -> str:
    """Why the item is wrong by itself, naming the field; empty when nothing is."""
    if bool(item.prediction_id) == bool(item.inference_id):
        return "prediction: expected either prediction_id or inference_id"
    if (item.label is None) == (item.value is None):
        return "truth: expected either label or value"
    if item.value is not None and not math.isfinite(item.value):
        return f"value: expected a finite number, got {item.value}"
    if item.row < 0:
        return f"row: expected 0 or more, got {item.row}"
    if item.observed_ms is not None and not -MAX_TIME_MS < item.observed_ms < MAX_TIME_MS:
        return "observed_at: not a time before the year 10000"
    return _too_long(item)


def _too_long(item: Feedback) -> str:
    texts = {"inference_id": item.inference_id, "label": item.label or "", "source": item.source}
    for field, text in {**texts, "idempotency_key": item.idempotency_key}.items():
        if len(text) > MAX_TEXT:
            return f"{field}: expected at most {MAX_TEXT} characters, got {len(text)}"
    return ""


def named_label(label: str, classes: tuple[str, ...]) -> str:
    """The class that a label means: itself, or where it is none of the ``classes`` but the index of one, that one's name."""
    if label in classes or not (label.isascii() and label.isdecimal()):
        return label
    index = int(label)
    return classes[index] if index < len(classes) else label
