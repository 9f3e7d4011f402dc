"""What exists and what should run: models, versions, artifacts, signatures, deployments, history."""
