"""
The caller's side of every service: channels (sync and asyncio), stubs, and the translation of what gRPC raises into
`gateway.client.call_errors`. Clients and the command line call through here and import no grpc themselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from gateway.client.aio_status import ServerStatus
from gateway.client.call_errors import CallCancelled, CallError, ConnectionBroke, DeadlineExceeded, Unreachable, error_of
from gateway.protocol.messages import inference
from gateway.protocol.services import ADMIN, FEEDBACK, INFERENCE, INFERENCE_NAME, WORKER_KEY, Stub

if TYPE_CHECKING:  # the first error imports it: 10 ms of CPU
    from google.rpc import error_details_pb2

DEFAULT_MAX_MESSAGE_BYTES = 64 << 20
_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_BROKEN = ("socket closed", "connection reset", "broken pipe", "recvmsg", "sendmsg", "goaway", "transport closed")
_CAUSES = {
    "connection refused": "connection refused",
    "dns resolution failed": "no such host",
    "domain name not found": "no such host",
    "no route to host": "no route to the host",
    "network is unreachable": "network unreachable",
    "no such file or directory": "no such socket",
    "timed out": "connecting timed out",
    "timeout": "connecting timed out",
}


class Channel:
    """One connection to a gateway, with a stub per service. Opens on the first call. Thread-safe."""

    def __init__(self, address: str, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address, options=_options(address, max_message_bytes))
        self.admin = Stub(self._channel, ADMIN)
        self.inference = Stub(self._channel, INFERENCE, name=INFERENCE_NAME)
        self.feedback = Stub(self._channel, FEEDBACK)

    def call(self, rpc: Any, request: Any, *, timeout_s: float | None, headers: Mapping[str, str] | None = None) -> Any:
        """
        Calls an RPC that answers once (``request``: a message, or an iterator of them). Returns the response. Raises
        CallError.
        """
        try:
            return rpc(request, timeout=timeout_s, metadata=_metadata(headers))
        except grpc.RpcError as error:
            raise translated(error, self.address, timeout_s) from error

    def worker(self, timeout_s: float) -> str | None:
        """Returns the worker at the other end by its own words, None if it sends none. Raises CallError."""
        try:
            _, call = self.inference.ServerReady.with_call(inference.ServerReadyRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise translated(error, self.address, timeout_s) from error
        except ValueError as error:  # closed by another thread
            raise CallCancelled(str(error), code="CANCELLED") from error
        return _pairs(call.trailing_metadata()).get(WORKER_KEY)

    def stream(
        self, rpc: Any, request: Any, *, timeout_s: float | None, headers: Mapping[str, str] | None = None
    ) -> Iterator[Any]:
        """Yields the responses of an RPC that answers many times. Leaving the iterator cancels the call. Raises CallError."""
        call = rpc(request, timeout=timeout_s, metadata=_metadata(headers))
        try:
            yield from call
        except grpc.RpcError as error:
            raise translated(error, self.address, timeout_s) from error
        finally:
            call.cancel()

    def close(self) -> None:
        """Closes the connection and cancels its calls."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncChannel:
    """The same on asyncio. Must be made inside the running event loop that uses it."""

    def __init__(self, address: str, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_options(address, max_message_bytes))
        self.inference = Stub(self._channel, INFERENCE, name=INFERENCE_NAME)
        self.feedback = Stub(self._channel, FEEDBACK)

    async def call(self, rpc: Any, request: Any, *, timeout_s: float | None, headers: Mapping[str, str] | None = None) -> Any:
        """
        Calls an RPC that answers once (``request``: a message, or an async iterator). Returns the response. Raises
        CallError.
        """
        try:
            return await rpc(request, timeout=timeout_s, metadata=_metadata(headers))
        except grpc.RpcError as error:
            raise translated(error, self.address, timeout_s) from error

    async def worker(self, timeout_s: float) -> str | None:
        """Returns the worker at the other end by its own words, None if it sends none. Raises CallError."""
        call = self.inference.ServerReady(inference.ServerReadyRequest(), timeout=timeout_s)
        try:
            await call
            return _pairs(await call.trailing_metadata()).get(WORKER_KEY)
        except grpc.RpcError as error:
            raise translated(error, self.address, timeout_s) from error

    async def stream(
        self, rpc: Any, request: Any, *, timeout_s: float | None, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Any]:
        """Yields the responses of an RPC that answers many times. Raises CallError."""
        call = rpc(request, timeout=timeout_s, metadata=_metadata(headers))
        told = ServerStatus(call)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            status = await told.of(error)
            if status.code() is not grpc.StatusCode.OK:
                raise translated(status, self.address, timeout_s) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Closes the connection and cancels its calls."""
        await self._channel.close()


def translated(error: Any, address: str, timeout_s: float | None = None) -> CallError:
    """
    Returns the typed error of a grpc.RpcError: its class by code, with the reason, facts and wait that the other side sent.
    """
    code, text, trailers = error.code(), error.details() or "", _pairs(error.trailing_metadata())
    cause = _unreachable_because(code, text, trailers)
    if cause is not None:
        unreachable = Unreachable(f"no gateway answers at {address} ({cause})", code=code.name)
        unreachable.cause = cause
        return unreachable
    if _is_broken(code, text, trailers):
        return ConnectionBroke(f"the connection to {address} broke under the call ({text})", code=code.name)
    info, delay_s = _details(trailers)
    pushback_ms = _pushback_ms(trailers)
    if pushback_ms is not None and pushback_ms >= 0:
        delay_s = pushback_ms / 1000
    kind = error_of(code.name)
    if kind is DeadlineExceeded and not info.reason and timeout_s is not None:
        text = f"no answer from {address} within {timeout_s:g} s"
    return kind(
        text or code.name,
        code=code.name,
        reason=info.reason,
        metadata=info.metadata,
        retry_after_s=delay_s,
        is_retry_refused=pushback_ms is not None and pushback_ms < 0,
    )


def _unreachable_because(code: grpc.StatusCode, text: str, trailers: Mapping[str, Any]) -> str | None:
    """Returns why the connection could not be made, None if the call failed for another reason."""
    if code is not grpc.StatusCode.UNAVAILABLE or _DETAILS_KEY in trailers:
        return None
    lowered = text.lower()
    if not ("failed to connect" in lowered or "resolution failed" in lowered):
        return None
    return next((cause for sign, cause in _CAUSES.items() if sign in lowered), "cannot connect")


def _is_broken(code: grpc.StatusCode, text: str, trailers: Mapping[str, Any]) -> bool:
    """Returns whether the connection ended before the answer came. Then gRPC's core made this status."""
    lowered = text.lower()
    is_own = code is grpc.StatusCode.UNAVAILABLE and _DETAILS_KEY not in trailers
    return is_own and any(sign in lowered for sign in _BROKEN)


def _details(trailers: Mapping[str, Any]) -> tuple[error_details_pb2.ErrorInfo, float | None]:
    """Reads ErrorInfo (empty when there is none) and the delay of RetryInfo in seconds from google.rpc.Status."""
    from google.rpc import error_details_pb2, status_pb2

    info, delay_s = error_details_pb2.ErrorInfo(), None
    raw = trailers.get(_DETAILS_KEY)
    if raw is None:
        return info, None
    for detail in status_pb2.Status.FromString(raw).details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            delay_s = retry.retry_delay.ToNanoseconds() / 1e9
        else:
            detail.Unpack(info)
    return info, delay_s


def _pushback_ms(trailers: Mapping[str, Any]) -> int | None:
    """
    Returns the milliseconds to wait. Negative: do not retry (gRFC A6; an unreadable value means the same). None: not sent.
    """
    text = trailers.get(_PUSHBACK_KEY)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return -1


def _pairs(metadata: Iterable[tuple[str, Any]] | None) -> dict[str, Any]:
    return dict(metadata or ())


def _metadata(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    return tuple(headers.items()) if headers else None


def _options(address: str, max_message_bytes: int) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # Channels of one process would share one connection, and SO_REUSEPORT spreads connections, not calls.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if address.startswith(("127.", "localhost", "[::1]", "unix:")):
        options.append(("grpc.enable_http_proxy", 0))  # a proxy from the environment cannot reach this machine's loopback
    return options
