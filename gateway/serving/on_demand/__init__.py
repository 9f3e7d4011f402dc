"""
Requests that are parked in this worker until control has had the version loaded that they name.

Which versions are loaded and unloaded is decided in `gateway.control.catalog`, not here.
"""
