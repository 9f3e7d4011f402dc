"""Every change of what is served: traffic, aliases, restarts; each is an operation in two phases."""
