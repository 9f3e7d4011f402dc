"""The one table from errors to gRPC codes, and the rich error that goes with each (google.rpc.ErrorInfo, RetryInfo)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from gateway import errors as gateway_errors
from gateway.api.header_size import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, shortened, shortened_facts
from gateway.errors import AskRefused, Fenced, GatewayError, Overloaded
from gateway.protocol.services import PUSHBACK_KEY
from registry import errors as registry_errors
from registry.errors import RegistryError

DOMAIN = "interlock"
DETAILS_KEY = "grpc-status-details-bin"
Code = grpc.StatusCode
T = TypeVar("T")

CODES: dict[type[Exception], grpc.StatusCode] = {
    gateway_errors.InvalidRequest: Code.INVALID_ARGUMENT,
    gateway_errors.ModelNotFound: Code.NOT_FOUND,
    gateway_errors.OperationNotFound: Code.NOT_FOUND,
    gateway_errors.RegionNotFound: Code.NOT_FOUND,
    gateway_errors.AlreadyThere: Code.ALREADY_EXISTS,
    gateway_errors.NotReady: Code.UNAVAILABLE,
    gateway_errors.Overloaded: Code.RESOURCE_EXHAUSTED,
    gateway_errors.DeadlinePassed: Code.DEADLINE_EXCEEDED,
    gateway_errors.CallerGone: Code.CANCELLED,
    gateway_errors.NotAllowed: Code.PERMISSION_DENIED,
    gateway_errors.ForbiddenNow: Code.FAILED_PRECONDITION,
    gateway_errors.Fenced: Code.FAILED_PRECONDITION,  # not UNAVAILABLE, which clients repeat at once
    gateway_errors.InferenceFailed: Code.INTERNAL,
    gateway_errors.Unsupported: Code.UNIMPLEMENTED,
    gateway_errors.AskRefused: Code.INTERNAL,  # for an unexpected error of control; else its kind counts
    registry_errors.ModelUnknown: Code.NOT_FOUND,
    registry_errors.VersionUnknown: Code.NOT_FOUND,
    registry_errors.InvalidValue: Code.INVALID_ARGUMENT,
    registry_errors.InvalidModel: Code.INVALID_ARGUMENT,
    registry_errors.RevisionConflict: Code.ABORTED,
    registry_errors.RequestReplayed: Code.INVALID_ARGUMENT,
    registry_errors.RuleForbids: Code.FAILED_PRECONDITION,
    registry_errors.ArtifactCorrupt: Code.DATA_LOSS,
    registry_errors.RegistryUnavailable: Code.UNAVAILABLE,
}

_BY_NAME = {kind.__name__: code for kind, code in CODES.items()}
_log = structlog.get_logger("interlock.api")


def code_of(error: BaseException) -> grpc.StatusCode:
    """Returns the code of an error: by its class or the nearest base in the table; INTERNAL for an unexpected error."""
    if isinstance(error, AskRefused):
        return _BY_NAME.get(error.kind, Code.INTERNAL)
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return Code.INTERNAL


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in the form that callers get: the code, a stable reason ("" for an unexpected error), the text, and facts."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str]


def failure(error: BaseException) -> Failure:
    """Returns the form of an error that callers get. Nothing of an unexpected error is told."""
    if not isinstance(error, GatewayError | RegistryError):
        return Failure(Code.INTERNAL, "INTERNAL", "internal error", {})
    return Failure(code_of(error), error.reason, shortened(str(error), MAX_BODY_BYTES), error.metadata)


Refusal = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]  # code, message, trailing metadata


def describe(error: BaseException) -> Refusal:
    """
    Returns (code, message, trailing metadata) of an error. Expected errors keep their message and carry ErrorInfo, both
    shortened to what clients accept in headers; any other becomes INTERNAL "internal error" without details, and is logged
    with its traceback.
    """
    if not isinstance(error, GatewayError | RegistryError):
        _log.error("internal_error", exc_info=error)
        return Code.INTERNAL, "internal error", ()
    code, message = code_of(error), shortened(str(error), MAX_MESSAGE_BYTES)
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded | AskRefused | Fenced) else None
    return code, message, trailers(code, message, error.reason, error.metadata, retry_after_s=retry_after_s)


def trailers(
    code: grpc.StatusCode, message: str, reason: str, metadata: Mapping[str, str], *, retry_after_s: float | None = None
) -> tuple[tuple[str, str | bytes], ...]:
    """Returns the trailing metadata of a rich error: google.rpc.Status with ErrorInfo, and pushback if a retry is worth it."""
    made = _trailers if retry_after_s is None else _repeated_trailers
    return made(code, message, reason, tuple(metadata.items()), retry_after_s)


def _trailers(
    code: grpc.StatusCode, message: str, reason: str, facts: tuple[tuple[str, str], ...], retry_after_s: float | None
) -> tuple[tuple[str, str | bytes], ...]:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=shortened_facts(dict(facts)))
    details = [_packed(info)]
    pushback: tuple[tuple[str, str | bytes], ...] = ()
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
        pushback = ((PUSHBACK_KEY, str(max(1, int(retry_after_s * 1000)))),)
    status = status_pb2.Status(code=code.value[0], message=message, details=details)
    return ((DETAILS_KEY, status.SerializeToString()), *pushback)


# An overload repeats few different errors, and a refusal must cost less than an answer; other errors differ endlessly.
_repeated_trailers = lru_cache(128)(_trailers)


def _packed(message: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def abort(context: grpc.ServicerContext, error: BaseException) -> NoReturn:
    """Ends the call with the error's code, message and details."""
    code, message, metadata = describe(error)
    context.set_trailing_metadata(metadata)
    context.abort(code, message)
    raise AssertionError("unreachable: abort raises")


def guarded(method: Callable[[Any, grpc.ServicerContext], T]) -> Callable[[Any, grpc.ServicerContext], T]:
    """Wraps a unary or client-streaming RPC so that its errors become statuses."""

    def call(request: Any, context: grpc.ServicerContext) -> T:
        try:
            return method(request, context)
        except Exception as error:
            if _is_abort(error, context):
                raise
            abort(context, error)

    return call


def guarded_stream(
    method: Callable[[Any, grpc.ServicerContext], Iterator[T]],
) -> Callable[[Any, grpc.ServicerContext], Iterator[T]]:
    """Wraps a server-streaming RPC so that its errors become statuses."""

    def call(request: Any, context: grpc.ServicerContext) -> Iterator[T]:
        try:
            yield from method(request, context)
        except Exception as error:
            if _is_abort(error, context):
                raise
            abort(context, error)

    return call


def _is_abort(error: Exception, context: grpc.ServicerContext) -> bool:
    """Whether the RPC itself has already ended the call (grpc then raises a bare Exception)."""
    return type(error) is Exception and context.code() is not None  # type: ignore[attr-defined]  # since grpcio 1.45
