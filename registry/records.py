"""
The registry's records beside models and deployments, and the protocol of the store that keeps them. Values and protocols
only.

A `Store` makes transactions. A transaction reads the state of one moment. Its writes become durable together when its block
ends, or not at all if the block raises.
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
    One change: the ``author``, the ``verb`` on ``model``, the state ``before`` and ``after``, and the ``reason``. ``before``
    and ``after`` are JSON, empty if there was or is nothing. ``id`` grows, ``created_at`` is Unix time in seconds.
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
    """A write that came with a request_id: the digest of its content, and the answer (JSON) that a repeat gets."""

    request_id: str
    fingerprint: str
    answer: str
    created_at: float


class Reader(Protocol):
    """Reads of one moment. ``limit`` bounds the rows; ``after`` and ``before`` are the last key of the page before."""

    def model(self, name: str) -> Model | None:
        """Returns the model with its aliases."""
        ...

    def models(self, *, after: str, limit: int) -> list[Model]:
        """Returns models by name, from the first behind ``after``."""
        ...

    def version(self, model: str, number: int) -> ModelVersion | None:
        """Returns one version."""
        ...

    def versions(self, model: str, *, before: int | None, limit: int) -> list[ModelVersion]:
        """Returns versions, newest first, below the number ``before``."""
        ...

    def deployment(self, model: str, revision: int | None = None) -> Deployment | None:
        """Returns that revision, or the newest."""
        ...

    def current_deployments(self) -> list[Deployment]:
        """Returns the newest revision of every model, by name."""
        ...

    def revisions(self, model: str, *, before: int | None, limit: int) -> list[Deployment]:
        """Returns revisions, newest first, below the revision ``before``."""
        ...

    def audit(self, model: str | None, *, before: int | None, limit: int) -> list[AuditRecord]:
        """Returns records, newest first, below the id ``before``; of one model or of all."""
        ...

    def request(self, request_id: str) -> AnsweredRequest | None:
        """Returns the request that was answered under this id."""
        ...


class Writer(Reader, Protocol):
    """Reads and writes of one transaction. No other writer of the same model runs between them."""

    def lock_model(self, name: str, *, created_at: float) -> Model:
        """Returns the model, created if it is not there. Nobody else can change it until the transaction ends."""
        ...

    def add_version(self, version: ModelVersion) -> None:
        """Stores a version and makes it the model's latest."""
        ...

    def replace_version(self, version: ModelVersion) -> None:
        """Stores what is known of a version instead of what was."""
        ...

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """Points the alias at the version; None deletes it."""
        ...

    def add_deployment(self, deployment: Deployment) -> None:
        """Appends a revision. Raises RevisionConflict if that revision is already there."""
        ...

    def touch_model(self, model: str) -> None:
        """Counts one change of the model itself."""
        ...

    def add_audit(self, record: AuditRecord) -> None:
        """Appends a record. The store sets its ``id``."""
        ...

    def add_request(self, request: AnsweredRequest, *, forget_before: float) -> None:
        """Keeps an answer, and deletes those older than ``forget_before`` (Unix time in seconds)."""
        ...


class Store(Protocol):
    """Durable transactions on the registry's records. Raises RegistryUnavailable if the database refuses."""

    def read(self) -> AbstractContextManager[Reader]:
        """Begins a transaction that only reads."""
        ...

    def write(self) -> AbstractContextManager[Writer]:
        """Begins a transaction that writes. It is durable when the block has ended without an error."""
        ...

    def close(self) -> None:
        """Closes connections."""
        ...
