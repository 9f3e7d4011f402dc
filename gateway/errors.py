"""
The gateway's expected errors: one small tree whose messages are for the caller.

    GatewayError
      InvalidRequest      the request is wrong; names the field
      ModelNotFound       no such model, version or alias is served or registered
      OperationNotFound   no such long operation is remembered
      RegionNotFound      no such shared memory region is registered
      AlreadyThere        something of that name is there already
      NotReady            known, but not serving now; worth a retry
      Overloaded          a queue or a limit is full; worth a retry after `retry_after_s`
      DeadlinePassed      the caller's deadline passed while the request waited
      CallerGone          the caller has cancelled or disconnected, so nobody waits for the answer
      NotAllowed          an option or permission forbids it, naming which
      Fenced              the version crashes and is refused until `retry_after_s` has passed
      ForbiddenNow        a rule forbids it in the present state
      InferenceFailed     the runtime refused a valid request
      Unsupported         the protocol or this build has no such thing

`gateway.api.status_codes` has the gRPC code of each. `registry.errors` has the base and the registry's own errors.
"""

from __future__ import annotations

from registry.errors import ExpectedError


class GatewayError(ExpectedError):
    """Base of every expected error of the gateway."""

    reason = "GATEWAY_ERROR"


class InvalidRequest(GatewayError):
    """The request is wrong: the text names the field, what came and what was expected."""

    reason = "INVALID_REQUEST"


class ModelNotFound(GatewayError):
    """No such model, version or alias."""

    reason = "MODEL_NOT_FOUND"


class OperationNotFound(GatewayError):
    """No operation of that name is remembered."""

    reason = "OPERATION_NOT_FOUND"


class RegionNotFound(GatewayError):
    """No shared memory region of that name is registered."""

    reason = "REGION_NOT_FOUND"


class AlreadyThere(GatewayError):
    """Something of that name is there already and is not replaced."""

    reason = "ALREADY_THERE"


class NotReady(GatewayError):
    """Known but not serving now (loading, draining, control unreachable). Retryable."""

    reason = "NOT_READY"


class Overloaded(GatewayError):
    """A bounded queue or a quota is full. Retryable after ``retry_after_s`` seconds."""

    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float = 0.1, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_after_s = retry_after_s


class DeadlinePassed(GatewayError):
    """The caller's deadline passed while the request was queued or running."""

    reason = "DEADLINE_PASSED"


class CallerGone(GatewayError):
    """The caller cancelled or its connection broke while the request was queued or running; nobody reads this."""

    reason = "CALLER_GONE"


class NotAllowed(GatewayError):
    """Switched off or not permitted; the text names the option or permission."""

    reason = "NOT_ALLOWED"


class ForbiddenNow(GatewayError):
    """A rule forbids it in the present state; the text says which rule and how to override it, where allowed."""

    reason = "FORBIDDEN_NOW"


class Fenced(GatewayError):
    """The version ends its process again and again, so its calls are refused for ``retry_after_s`` seconds."""

    reason = "FENCED"

    def __init__(self, message: str, *, retry_after_s: float = 1.0, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.retry_after_s = retry_after_s


class InferenceFailed(GatewayError):
    """The runtime refused a valid request; names model and version."""

    reason = "INFERENCE_FAILED"


class AskRefused(GatewayError):
    """Control answered a worker's question with an error. ``kind`` is the name of its class, "" for an unexpected one."""

    def __init__(self, message: str, *, kind: str, reason: str, retry_after_s: float | None = None, **metadata: object) -> None:
        super().__init__(message, **metadata)
        self.kind = kind
        self.reason = reason
        self.retry_after_s = retry_after_s


class Unsupported(GatewayError):
    """There is no such thing in the protocol or in this build."""

    reason = "UNSUPPORTED"
