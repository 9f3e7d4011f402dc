"""
What the registry keeps beside models and deployments, and the port to whatever keeps it. Values and protocols only.

A `Store` gives transactions. Everything a transaction reads is one moment's state; everything it writes becomes
durable together when its block ends, or not at all when the block raises.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from registry.deployment import Deployment
from registry.versions import Model, ModelVersion


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """
    One change: who (``author``), what (``verb`` on ``model``), from (``before``), to (``after``), why (``reason``).

    ``before`` and ``after`` are JSON, empty where there was or is nothing. ``id`` grows, ``created_at`` is Unix time in
    seconds.
    """

    verb: str
    model: str
    before: str = ""
    after: str = ""
    author: str = ""
    reason: str = ""
    created_at: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A write that came with a request_id: the digest of its content and the answer (JSON) that a repeat gets."""

    request_id: str
    fingerprint: str
    answer: str
    created_at: float


class Reader(Protocol):
    """Reads of one moment. ``limit`` bounds the rows; ``after`` and ``before`` are the last key of the page before."""

    def model(self, name: str) -> Model | None:
        """The model with its aliases."""
        ...

    def models(self, *, after: str, limit: int) -> list[Model]:
        """By name, from the first behind ``after``."""
        ...

    def version(self, model: str, number: int) -> ModelVersion | None:
        """One version."""
        ...

    def versions(self, model: str, *, before: int | None, limit: int) -> list[ModelVersion]:
        """Newest first, below the number ``before``."""
        ...

    def deployment(self, model: str, revision: int | None = None) -> Deployment | None:
        """That revision, or the newest."""
        ...

    def current_deployments(self) -> list[Deployment]:
        """The newest revision of every model, by name."""
        ...

    def revisions(self, model: str, *, before: int | None, limit: int) -> list[Deployment]:
        """Newest first, below the revision ``before``."""
        ...

    def audit(self, model: str | None, *, before: int | None, limit: int) -> list[AuditRecord]:
        """Newest first, below the id ``before``; of one model or of all."""
        ...

    def request(self, request_id: str) -> AnsweredRequest | None:
        """The request that was answered under this id."""
        ...


class Writer(Reader, Protocol):
    """Reads and writes of one transaction; no other writer of the same model runs between them."""

    def lock_model(self, name: str, *, created_at: float) -> Model:
        """The model, created when it is not there, and nobody else's to change until the transaction ends."""
        ...

    def add_version(self, version: ModelVersion) -> None:
        """Store a version and make it the model's latest."""
        ...

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """Point the alias at the version; None deletes it."""
        ...

    def add_deployment(self, deployment: Deployment) -> None:
        """Append a revision. Raises RevisionConflict when that revision is there already."""
        ...

    def touch_model(self, model: str) -> None:
        """Count one change of the model itself."""
        ...

    def add_audit(self, record: AuditRecord) -> None:
        """Append a record; its ``id`` is given by the store."""
        ...

    def add_request(self, request: AnsweredRequest, *, forget_before: float) -> None:
        """Keep an answer, and drop those older than ``forget_before`` (Unix time in seconds)."""
        ...


class Store(Protocol):
    """Durable transactions over the registry's records. Raises RegistryUnavailable when they cannot be had."""

    def read(self) -> AbstractContextManager[Reader]:
        """A transaction that only reads."""
        ...

    def write(self) -> AbstractContextManager[Writer]:
        """A transaction that writes, durable when the block has ended without an error."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
