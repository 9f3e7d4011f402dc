"""What should run: the desired state of every model, derived from the registry's deployments."""
