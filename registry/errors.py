"""The registry's expected errors: one small tree whose messages are for the caller. No status codes live here."""

from __future__ import annotations

from typing import Self


class ExpectedError(Exception):
    """
    Base of every expected error, here and in the gateway. ``reason`` is a stable UPPER_SNAKE word for programs, ``metadata``
    has facts for programs, the text is for people.
    """

    reason = "EXPECTED_ERROR"

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in metadata.items()}

    def with_message(self, message: str) -> Self:
        """Returns the same error with another text. Its type, metadata and all else (as a retry delay) stay."""
        kind = type(self)
        made = kind.__new__(kind)  # not by the constructor, which differs by class
        made.__dict__.update(self.__dict__)
        made.args = (message,)
        return made


class RegistryError(ExpectedError):
    """Base of every expected registry error."""

    reason = "REGISTRY_ERROR"


class ModelUnknown(RegistryError):
    """No model of that name is registered."""

    reason = "MODEL_NOT_FOUND"


class VersionUnknown(RegistryError):
    """The model has no such version or alias."""

    reason = "VERSION_NOT_FOUND"


class InvalidValue(RegistryError):
    """A field has a value that its rules forbid. The text names the field, what came and what was expected."""

    reason = "INVALID_VALUE"


class InvalidModel(RegistryError):
    """The model file or folder cannot be admitted. The text says which check failed."""

    reason = "INVALID_MODEL"


class RevisionConflict(RegistryError):
    """The etag or revision that the caller named is no longer the current one."""

    reason = "REVISION_CONFLICT"


class RequestReplayed(RegistryError):
    """A request_id came again with different content."""

    reason = "REQUEST_ID_REUSED"


class RuleForbids(RegistryError):
    """A rule forbids the change now. The text says which rule, and how to override it if that is allowed."""

    reason = "RULE_FORBIDS"


class ArtifactCorrupt(RegistryError):
    """A stored artifact does not match its digest."""

    reason = "ARTIFACT_CORRUPT"


class RegistryUnavailable(RegistryError):
    """The registry's database or folder cannot be used now."""

    reason = "REGISTRY_UNAVAILABLE"
