"""The prediction log: what was predicted, kept for a while, and joined with what really happened. The only user of sqlite3."""

from gateway.quality.log.config import PendingLimits
from gateway.quality.log.prediction_log import PredictionLog

__all__ = ["PendingLimits", "PredictionLog"]
