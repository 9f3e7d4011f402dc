"""Leases: the only place where the right to use a loaded version is taken and ended."""

from __future__ import annotations

from types import TracebackType

from gateway.versions.loaded import LoadedVersion


class Lease:
    """
    The right to use a loaded version for a number of requests. While a lease lasts, the version is not unloaded.

    Leaving the ``with`` block, or `end`, ends it exactly once; ending it again does nothing. One thread at a time owns it.
    """

    __slots__ = ("requests", "version")

    def __init__(self, version: LoadedVersion, requests: int = 0) -> None:
        """Makes a lease that covers ``requests`` requests already counted by the version; use `take` for a new one."""
        self.version = version
        self.requests = requests

    @classmethod
    def take(cls, version: LoadedVersion, requests: int) -> Lease | None:
        """Takes a lease; None when the version is retired: its requests then have to be routed again."""
        return cls(version, requests) if version.acquire_leases(requests) else None

    def __repr__(self) -> str:
        return f"<lease of {self.version.model} v{self.version.number} for {self.requests} requests>"

    def split(self, requests: int) -> Lease:
        """Moves ``requests`` of this lease into a lease of their own."""
        if requests > self.requests:
            raise ValueError(f"a lease for {self.requests} requests cannot give away {requests}")
        self.requests -= requests
        return Lease(self.version, requests)

    def join(self, other: Lease) -> None:
        """Moves all requests of another lease of the same version into this one."""
        self.requests += other.requests
        other.requests = 0

    def end(self) -> None:
        """Ends the lease."""
        requests, self.requests = self.requests, 0
        if requests:
            self.version.release_leases(requests)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
