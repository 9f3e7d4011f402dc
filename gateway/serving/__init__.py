"""The request path of a worker."""
