"""
Lanes: how the calls of one hot method get from gRPC to the request path and back, in batches.

A lane hands over every call that is ready (`take`) and takes the answers (`reply`, `fail`); nothing above knows what is
under it. `FastLane` polls a completion queue of gRPC core itself; `StandardLane` is the same on grpc's public API.

This is the one file that touches grpcio's private Cython layer (``grpc._cython.cygrpc``), on which grpcio's own
``_server.py`` is written. Hence grpcio is bounded above in pyproject.toml, `fast_lane_problem` checks what is used before
it is used, `open_lane` falls back to the public API, and the same contract tests run on both.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import grpc
import structlog
from grpc._cython import cygrpc

from gateway.rpc.service import INFER_METHOD

Trailers = tuple[tuple[str, str | bytes], ...]
OUTSTANDING = 256  # calls that gRPC core may hand over before we ask again
STANDARD_THREADS = 64  # concurrent calls of the standard lane; set as the server's thread pool
_log = structlog.get_logger("interlock.lane")


class Call:
    """
    One call: its request ``message`` (bytes), ``deadline`` (Unix seconds; far in the future when none) and ``metadata``
    (pairs). ``core`` is the lane's own handle.
    """

    __slots__ = ("core", "deadline", "message", "metadata")

    def __init__(self, core: Any, deadline: float, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.core = core
        self.deadline = deadline
        self.metadata = metadata
        self.message = b""


class Lane(Protocol):
    """One thread takes; any thread replies. Every call taken must be answered exactly once, by `reply` or `fail`."""

    kind: str

    def start(self) -> None:
        """Begins to accept calls; after the server's own ``start``."""
        ...

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        """Every call that is ready, up to ``max_calls``; waits at most ``timeout_s`` for the first."""
        ...

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        """Answers calls with serialized messages and status OK."""
        ...

    def fail(self, call: Call, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        """Ends one call with an error."""
        ...

    def is_closed(self) -> bool:
        """Whether the server has stopped and every call taken is finished: nothing will come any more."""
        ...

    def close(self) -> None:
        """Frees the lane; only when closed."""
        ...


class FastLane:
    """A completion queue of our own on the server's core: one Python frame or two an event, no thread hand-over."""

    kind = "fast"

    def __init__(self, server: Any, method: str) -> None:
        self._core = server._cy_server
        self._queue = cygrpc.CompletionQueue()
        self._core.register_completion_queue(self._queue)
        self._core.register_method(method)
        self._method = method
        self._asked = 0  # requests that gRPC core holds; only the taking thread changes it
        self._open = 0  # calls taken over and not finished; only the taking thread changes it
        # Operations that carry nothing of a call are shared: they hold no state between start and completion.
        self._send_initial = cygrpc.SendInitialMetadataOperation(None, 0)
        self._status_ok = cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", 0)
        self._receive_close = cygrpc.ReceiveCloseOnServerOperation(0)

    def start(self) -> None:
        """See Lane."""
        for _ in range(OUTSTANDING):
            self._ask()

    def _ask(self) -> None:
        self._core.request_registered_call(self._queue, self._queue, self._method, _ASKED)
        self._asked += 1

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        """See Lane."""
        calls: list[Call] = []
        poll, until = self._queue.poll, time.time() + timeout_s
        event = poll(until)
        while True:
            if event.completion_type == _TIMEOUT:
                if calls or time.time() >= until:
                    return calls
                event = poll(until)
                continue
            tag = event.tag
            if tag is _FINISHED:
                self._open -= 1
            elif tag is _ASKED:
                self._asked -= 1
                if event.success:
                    self._receive(event)
            elif event.success and (message := event.batch_operations[0].message()) is not None:
                tag.message = message
                calls.append(tag)
                if len(calls) >= max_calls:
                    return calls
            else:  # the client went away before its message came
                self.fail(tag, grpc.StatusCode.CANCELLED, "cancelled", ())
            event = poll(0)

    def _receive(self, event: Any) -> None:
        call = Call(event.call, event.call_details.deadline, event.invocation_metadata)
        self._open += 1
        event.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), call)
        try:
            self._ask()
        except Exception as error:  # gRPC core refuses new requests once it shuts down
            _log.debug("lane_not_asking", error=str(error))

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        """See Lane."""
        initial, status, close = self._send_initial, self._status_ok, self._receive_close
        if trailers:
            status = cygrpc.SendStatusFromServerOperation(trailers, cygrpc.StatusCode.ok, b"", 0)
        message = cygrpc.SendMessageOperation
        for call, payload in answers:
            call.core.start_server_batch((initial, message(payload, 0), status, close), _FINISHED)

    def fail(self, call: Call, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        """See Lane."""
        status = cygrpc.SendStatusFromServerOperation(trailers, code.value[0], message.encode(), 0)
        call.core.start_server_batch((self._send_initial, status, self._receive_close), _FINISHED)

    def is_closed(self) -> bool:
        """See Lane."""
        return self._asked == 0 and self._open == 0

    def close(self) -> None:
        """See Lane."""
        self._queue.shutdown()
        while self._queue.poll(time.time() + 1).completion_type is not cygrpc.CompletionType.queue_shutdown:
            pass


_TIMEOUT = cygrpc.CompletionType.queue_timeout
_ASKED, _FINISHED = object(), object()


class StandardLane:
    """The same on grpc's public API: each call waits in a thread of the server's pool. Slower, and needs no private name."""

    kind = "standard"

    def __init__(self, server: grpc.Server, method: str) -> None:
        self._ready: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._server = server
        self._open = 0
        self._lock = threading.Lock()
        self._is_stopped = False
        service, name = method.strip("/").split("/")
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._handle)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))

    def start(self) -> None:
        """See Lane."""

    def _handle(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        remaining = context.time_remaining()
        deadline = time.time() + remaining if remaining is not None else float("inf")
        waiting = _Waiting()
        call = Call(waiting, deadline, context.invocation_metadata() or ())
        call.message = message
        with self._lock:
            self._open += 1
        try:
            self._ready.put(call)
            waiting.is_done.wait()
        finally:
            with self._lock:
                self._open -= 1
        if waiting.trailers:
            context.set_trailing_metadata(waiting.trailers)
        if waiting.code is not grpc.StatusCode.OK:
            context.abort(waiting.code, waiting.details)
        return waiting.payload

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        """See Lane."""
        calls: list[Call] = []
        try:
            calls.append(self._ready.get(timeout=timeout_s))
            while len(calls) < max_calls:
                calls.append(self._ready.get_nowait())
        except queue.Empty:
            pass
        return calls

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        """See Lane."""
        for call, payload in answers:
            call.core.finish(grpc.StatusCode.OK, "", trailers or (), payload)

    def fail(self, call: Call, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        """See Lane."""
        call.core.finish(code, message, trailers, b"")

    def stopped(self) -> None:
        """Told when the server accepts no more calls, as the public API does not say so."""
        self._is_stopped = True

    def is_closed(self) -> bool:
        """See Lane."""
        return self._is_stopped and self._open == 0 and self._ready.empty()

    def close(self) -> None:
        """See Lane."""


class _Waiting:
    """A handler thread that waits for its answer."""

    __slots__ = ("code", "details", "is_done", "payload", "trailers")

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.code = grpc.StatusCode.OK
        self.details = ""
        self.trailers: Trailers = ()
        self.payload = b""

    def finish(self, code: grpc.StatusCode, details: str, trailers: Trailers, payload: bytes) -> None:
        self.code, self.details, self.trailers, self.payload = code, details, trailers, payload
        self.is_done.set()


def fast_lane_problem(server: grpc.Server) -> str | None:
    """Why the fast lane cannot be used with the grpcio that is installed; None when it can."""
    core = getattr(server, "_cy_server", None)
    missing = [
        name
        for owner, names in (
            (core, ("register_completion_queue", "register_method", "request_registered_call")),
            (cygrpc, ("CompletionQueue", "CompletionType", "ReceiveMessageOperation", "SendMessageOperation")),
            (cygrpc, ("SendInitialMetadataOperation", "SendStatusFromServerOperation", "ReceiveCloseOnServerOperation")),
        )
        for name in names
        if not hasattr(owner, name)
    ]
    return f"grpcio {grpc.__version__} lacks {', '.join(missing)}" if missing else None


def open_lane(server: grpc.Server, kind: str = "fast", method: str = INFER_METHOD) -> FastLane | StandardLane:
    """
    A lane for ``method`` on a server that has not been started. ``fast`` falls back to ``standard``, with a warning in
    the log, where grpcio's private layer is not as this file knows it.
    """
    if kind == "fast":
        problem = fast_lane_problem(server)
        if problem is None:
            return FastLane(server, method)
        _log.warning("fast_lane_unavailable", problem=problem, lane="standard")
    return StandardLane(server, method)
