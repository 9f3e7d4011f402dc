"""
The errors of a call: one tree, by what the caller can do about them. Pure; no grpc here.

    CallError
      RequestRefused      the request is wrong (INVALID_ARGUMENT, OUT_OF_RANGE); the text names the field
      NotFound            no such model, version, alias or operation
      RuleForbids         a rule forbids it now (FAILED_PRECONDITION); the text says how to override it, where that is allowed
      Conflict            somebody else was faster (ABORTED, ALREADY_EXISTS): read again, then decide
      NotPermitted        not authenticated, or not allowed
      Unavailable         not serving now; worth a retry
        Unreachable       nobody answers at the address
        ConnectionBroke   the connection broke under the call; worth one retry
      Overloaded          a queue or quota is full (RESOURCE_EXHAUSTED); worth a retry after `retry_after_s`
      DeadlineExceeded    no answer in time
      NotSupported        the gateway has no such RPC or feature
      CallCancelled       cancelled by this side or the other
      GatewayFailed       the gateway's own failure (INTERNAL, UNKNOWN, DATA_LOSS)

Beside it `CannotSend`: refused on this side, before any call.
"""

from __future__ import annotations

from collections.abc import Mapping


class CallError(Exception):
    """
    Base of all errors of a call. ``code`` is the gRPC code's name, ``reason`` a stable word for programs ("" if the other
    side sent none), ``metadata`` facts for programs, ``retry_after_s`` the wait that the other side asked for (None: it did
    not). ``is_retry_refused``: the other side does not want a retry.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        is_retry_refused: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.is_retry_refused = is_retry_refused


class CannotSend(ValueError):
    """The arguments have no form on the wire, so nothing was sent. The text names the argument and what was expected."""


class RequestRefused(CallError):
    """The request is wrong; the text names the field, what came and what was expected."""


class NotFound(CallError):
    """No such model, version, alias or operation."""


class RuleForbids(CallError):
    """A rule forbids it in the present state. The text says which rule, and how to override it if that is allowed."""


class Conflict(CallError):
    """The state that the request was based on is no longer current: read again, then decide."""


class NotPermitted(CallError):
    """Not authenticated, or not allowed."""


class Unavailable(CallError):
    """Not serving now; worth a retry."""


class Unreachable(Unavailable):
    """Nobody answers at the address. ``cause`` is the reason in a few words."""

    cause = ""


class ConnectionBroke(Unavailable):
    """
    The connection broke while the call was in progress, so nobody knows what became of it. It may have ended the server's
    process itself: it is repeated at most once.
    """


class Overloaded(CallError):
    """A queue or a quota is full; worth a retry after ``retry_after_s``."""


class DeadlineExceeded(CallError):
    """No answer within the time the caller gave."""


class NotSupported(CallError):
    """The gateway has no such RPC or feature."""


class CallCancelled(CallError):
    """Cancelled by this side or the other."""


class GatewayFailed(CallError):
    """The gateway's own failure; its log has the details."""


BY_CODE: dict[str, type[CallError]] = {
    "INVALID_ARGUMENT": RequestRefused,
    "OUT_OF_RANGE": RequestRefused,
    "NOT_FOUND": NotFound,
    "FAILED_PRECONDITION": RuleForbids,
    "ABORTED": Conflict,
    "ALREADY_EXISTS": Conflict,
    "PERMISSION_DENIED": NotPermitted,
    "UNAUTHENTICATED": NotPermitted,
    "UNAVAILABLE": Unavailable,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNIMPLEMENTED": NotSupported,
    "CANCELLED": CallCancelled,
}


def error_of(code: str) -> type[CallError]:
    """Returns the class for a gRPC code's name; GatewayFailed for codes that are the gateway's fault."""
    return BY_CODE.get(code, GatewayFailed)
