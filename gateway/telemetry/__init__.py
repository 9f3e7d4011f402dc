"""
Metrics, traces and logs: counts merged over workers, the Prometheus page, OpenTelemetry spans, structured logs.

Counting on the request path is `serving`'s; here counts are merged and shown.
"""
