"""Requests that wait in this worker until control has had the version loaded that they name."""
