"""
Every change of what is served. Each is an operation that runs in a thread of its own and may be watched.

A promote, from top to bottom:

1. `traffic.Traffic.promote` starts an operation (`operations.Operations.start`): one at a time per model.
2. `Traffic._run` reads the current deployment, checks the etag, and makes the next one (`registry.deployment.promoted`)
   with the versions that it requires: a `two_phase.Intent`.
3. `two_phase.TwoPhase.change` carries it out. *Prepare* (`_prepare`): the versions join the desired state, and every
   worker loads and warms them up (`fleet.progress.prepared`). A failure changes nothing (`_undo`).
4. *Commit* (`Intent.write`): one compare-and-set write of a new revision to the registry, then the new desired state
   (`desired.state_store.DesiredStateStore.put_in_force`).
5. *Acknowledge* (`_acknowledge`): waits until every worker has the route in force (`fleet.progress.unacknowledged`).

`aliases` and `rolling_restart` are the other changes, `deployment_settings` is what `configure` takes. What should run is
derived in `desired`, not here; gRPC messages are `gateway.api`'s.
"""
