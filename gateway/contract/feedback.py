"""Ground truth as values: an item that says what really happened, and the verdict on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    """The verdict on one item. ``detail`` tells people why."""

    kind: VerdictKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """
    What really happened to one row of one prediction.

    Exactly one of ``prediction_id`` and ``inference_id`` names the prediction; exactly one of ``label`` (a class) and
    ``value`` (a number) is the truth. ``observed_ms`` is Unix milliseconds, None if unknown.
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
