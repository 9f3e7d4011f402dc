"""
`PredictionStore`: the interface of the prediction log, for all its users. `quality.log.PredictionLog` implements it on SQLite,
and tests have a fake. No implementation lives here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.contract.feedback import Feedback, Verdict
from gateway.contract.predictions import PredictionBatch
from gateway.quality.log.log_values import LogCounts
from gateway.quality.metrics import VersionQuality
from gateway.quality.vocabulary import Vocabulary


class PredictionStore(Protocol):
    """
    Records predictions, joins ground truth with them, and computes live quality. Thread-safe. Methods raise NotReady if the
    store cannot be read or written, for example because the disk is full.
    """

    def know_epoch(self, epoch: int, incarnation: str) -> None:
        """Announces that a worker's incarnation issues prediction ids of this epoch. Other epochs are UNKNOWN."""
        ...

    def know_vocabulary(self, model: str, version: int, vocabulary: Vocabulary) -> None:
        """Stores the classes that a version can predict, with which labels are checked. Survives restarts."""
        ...

    def record(self, batches: Sequence[PredictionBatch]) -> None:
        """
        Writes predictions and joins the labels that wait for them. Ignores predictions that are already there. Predictions
        that cannot be written are counted as dropped; this method does not raise for them.
        """
        ...

    def accept(self, items: Sequence[Feedback]) -> list[Verdict]:
        """
        Joins ground truth with predictions, in the order of ``items``. Returns one verdict per item, in order; everything is
        durable then. Raises NotReady if it cannot be written and Overloaded if too many labels wait; then nothing is kept.
        """
        ...

    def quality(self, model: str, window_s: float = 0.0) -> tuple[VersionQuality, ...]:
        """
        Returns the quality per version and arm, over the predictions of the last ``window_s`` seconds; 0 stands for all that
        are kept.
        """
        ...

    def quality_of_all(self, window_s: float = 0.0) -> tuple[tuple[str, VersionQuality], ...]:
        """Returns (model, quality) for every model, as `quality` does for one."""
        ...

    def pending(self) -> int:
        """Returns the number of labels that wait for their prediction."""
        ...

    def counts(self) -> LogCounts:
        """Returns the counts since the store was opened."""
        ...

    def coverage(self, dropped_before: int = 0) -> float:
        """
        Returns the share of all predictions that are recorded: the sampling rate, reduced by predictions that were lost here
        or (``dropped_before``) on the way here.
        """
        ...

    def tick(self) -> None:
        """Deletes old predictions, predictions beyond the size bound, and labels that waited too long. Called once a second."""
        ...
