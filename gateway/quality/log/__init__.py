"""
The prediction log: recorded predictions on SQLite, kept for a time, and joined with ground truth. The only user of sqlite3.

`prediction_log.PredictionLog` is the only entrance: transactions, threads and errors. Behind it, one file per subject, each
working on a connection that it is given: `log_tables` (schema), `write` (predictions in), `join` (ground truth in), `rollup`
(sums per minute), `read` (quality out), `expiry` (deletion). Not here: the formulas of quality (`quality.metrics`) and the
checks of one item of feedback (`quality.feedback_rules`).
"""

from gateway.quality.log.log_values import PendingLimits
from gateway.quality.log.prediction_log import PredictionLog

__all__ = ["PendingLimits", "PredictionLog"]
