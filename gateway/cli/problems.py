"""Expected errors of a command, described for people and for programs. Any other error is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.client.call_errors import CallError, CannotSend
from gateway.errors import GatewayError
from registry.errors import RegistryError


class CommandError(Exception):
    """The arguments or files do not fit. The text says what came and what was expected."""


class NoGateway(CommandError):
    """Nobody answers at the address. The text says what to do about it."""


EXPECTED = (CallError, CannotSend, GatewayError, RegistryError, CommandError, OSError)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in one line. ``code`` is a gRPC code's name, or INVALID_INPUT if this side refused it."""

    message: str
    code: str = "INVALID_INPUT"
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def described(error: Exception) -> Problem:
    """Describes an expected error."""
    if isinstance(error, NoGateway):
        return Problem(str(error), "UNAVAILABLE", "UNREACHABLE")
    if isinstance(error, CallError):
        return Problem(str(error), error.code, error.reason, error.metadata)
    if isinstance(error, GatewayError | RegistryError):
        return Problem(str(error), reason=error.reason, metadata=error.metadata)
    if isinstance(error, OSError) and error.strerror:
        return Problem(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return Problem(str(error))
