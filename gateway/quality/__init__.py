"""
Ground truth and live quality.

Here: prediction ids, the rules for feedback, the figures of classifiers and regressors, the comparison of a shadow's outputs
with the primary's, and in `quality.log` the prediction log. Only `quality.log` has state. Not here: recording on the request
path (`serving.prediction_records`), questions about quality (`control`, `api`), and metrics (`control.observe`, `telemetry`).
"""
