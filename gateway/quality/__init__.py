"""Ground truth and live quality: ids, the prediction log, the join, the metrics."""
