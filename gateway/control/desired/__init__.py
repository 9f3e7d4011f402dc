"""
The desired state of every worker, derived from the registry's deployments.

`reconcile` is the pure rule, `state_store` keeps the current state in step with the registry, on disk and in the workers.
Nothing here waits for workers.
"""
