"""
The registry: models, versions, artifacts, signatures, deployments, and the history of changes.

Values and rules are pure modules here, `registry.stores` keeps them in a database and on disk. Nothing here loads or runs a
model, and nothing here imports `gateway`.
"""
