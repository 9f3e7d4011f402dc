"""The registry's expected errors: one small tree whose messages are for the caller. No status codes live here."""

from __future__ import annotations


class RegistryError(Exception):
    """
    Base of every expected registry error.

    ``reason`` is a stable UPPER_SNAKE word for programs, ``metadata`` its facts, the text is for people.
    """

    reason = "REGISTRY_ERROR"

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in metadata.items()}


class ModelUnknown(RegistryError):
    """No model of that name is registered."""

    reason = "MODEL_NOT_FOUND"


class VersionUnknown(RegistryError):
    """The model has no such version or alias."""

    reason = "VERSION_NOT_FOUND"


class InvalidValue(RegistryError):
    """A field came with a value that the rules of that field forbid; names the field, what came and what was expected."""

    reason = "INVALID_VALUE"


class InvalidModel(RegistryError):
    """The model file or folder cannot be admitted; says which check failed."""

    reason = "INVALID_MODEL"


class RevisionConflict(RegistryError):
    """The etag or revision the caller named is no longer the current one."""

    reason = "REVISION_CONFLICT"


class RequestReplayed(RegistryError):
    """A request_id came again with different content."""

    reason = "REQUEST_ID_REUSED"


class RuleForbids(RegistryError):
    """A rule forbids the change now; says which rule and how to override it, where that is allowed."""

    reason = "RULE_FORBIDS"


class ArtifactCorrupt(RegistryError):
    """A stored artifact does not match its digest."""

    reason = "ARTIFACT_CORRUPT"


class RegistryUnavailable(RegistryError):
    """The registry's database or folder cannot be used now."""

    reason = "REGISTRY_UNAVAILABLE"
