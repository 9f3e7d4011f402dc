"""
Metrics, traces and logs.

Here: the sums over all workers (`aggregate`, `merged_counts`), the facts of a scrape (`facts`) and their rendering for
Prometheus (`prometheus`); the sampling of requests (`trace_sampling`), a worker's buffer of traces (`worker_tracing`) and
their export as OpenTelemetry spans by control (`otel`); the set-up of log lines (`logs`). Not here: counting on the request
path (`serving.account`), the messages between workers and control (`contract`), and the collection of control's own facts
(`control.observe`).
"""
