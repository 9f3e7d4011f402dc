"""
Everything that control shows of the gateway, and the predictions that it records.

Here: `gateway_status` and `statistics` (values for `interlock status` and for Triton's statistics), `http` (the HTTP port),
`prediction_recorder` (the queue into the prediction log).

Where is a metric rendered? Workers count (`serving.account`, `contract.counts`), `telemetry.aggregate` sums the workers,
`metrics_facts` here collects control's part, `telemetry.facts` is the value of one scrape, `telemetry.prometheus` renders it,
and docs/metrics.md lists it.

Not here: decisions about versions and routes, rendering for people (`cli`), and protobuf messages (`api`).
"""
