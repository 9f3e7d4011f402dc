"""
Ground truth and live quality.

Here: prediction ids, the rules for feedback, the figures of classifiers and regressors, the comparison of a shadow's outputs
with the primary's, and in `quality.log` the prediction log. Values and pure functions, except in `quality.log`. Not here: who
records predictions (`serving.prediction_records`), who asks for quality (`control`, `api`), and how figures become metrics
(`control.observe`, `telemetry.prometheus`).
"""
