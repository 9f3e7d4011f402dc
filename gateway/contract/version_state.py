"""
The states of a version in a worker, as control and workers name them. Pure. `gateway.versions.states` has the transitions.
"""

from __future__ import annotations

from enum import StrEnum


class VersionState(StrEnum):
    """The state of one version in one worker."""

    NEW = "NEW"  # desired, nothing done yet
    LOADING = "LOADING"  # being read into memory
    WARMING = "WARMING"  # loaded, running trial requests
    READY = "READY"  # may be leased
    DRAINING = "DRAINING"  # gives no new lease, waits for those taken
    UNLOADING = "UNLOADING"  # being freed; or a load that is no longer desired, until it ends
    UNLOADED = "UNLOADED"  # gone
    FAILED = "FAILED"  # could not be loaded, warmed up or freed; the reason is beside it
