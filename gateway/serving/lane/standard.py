"""The standard lane, on grpc's public API: each call waits for its answer in a thread of the server's pool."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from gateway.clock import monotonic_at
from gateway.serving.lane.call import Call, OnGone, Trailers
from gateway.serving.lane.open_streams import Streams
from gateway.serving.lane.standard_stream import StandardStream
from gateway.serving.lane.stream import StreamCall, answered, failed

STANDARD_THREADS = 64  # concurrent calls of the standard lane: threads of the server's pool


class StandardLane:
    """Receives and answers calls by grpc's public API. Slower than the fast lane."""

    kind = "standard"

    def __init__(self, server: grpc.Server, method: str, stream_method: str = "", max_stream_age_s: float = 0.0) -> None:
        self._ready: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._server = server
        self._open = 0
        self._lock = threading.Lock()
        self._streams = Streams(max_stream_age_s)
        self._is_stopped = False
        self._add(server, method, grpc.unary_unary_rpc_method_handler(self._handle))
        if stream_method:
            self._add(server, stream_method, grpc.stream_stream_rpc_method_handler(self._handle_stream))

    def _add(self, server: grpc.Server, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        service, name = method.strip("/").split("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))

    def start(self) -> None:
        """Does nothing: calls are accepted as soon as the server has started."""

    def _handle_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        stream = StandardStream(_deadline(context), context.invocation_metadata() or (), self._streams.discard)
        self._streams.add(stream)
        if not context.add_callback(stream.over):
            stream.over()
        threading.Thread(target=stream.receive, args=(requests, self._ready.put), daemon=True).start()
        return stream.answers(context)

    def _handle(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        waiting = _WaitingCall(context)
        call = Call(waiting, _deadline(context), context.invocation_metadata() or ())
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
        calls: list[Call] = []
        now = time.monotonic()
        if now >= self._streams.due_at:
            self._streams.tend(now)
        try:
            calls.append(self._ready.get(timeout=timeout_s))
            while len(calls) < max_calls:
                calls.append(self._ready.get_nowait())
        except queue.Empty:
            pass
        return calls

    def watch(self, calls: Sequence[Call], on_gone: OnGone) -> None:
        """See Lane. ``on_gone`` is called by a thread of gRPC."""
        for call in calls:
            (call.via or call.core).watch(call, on_gone)

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        for call, payload in answers:
            if isinstance(call, StreamCall):
                call.answer = answered(payload)
                call.via.flush()
                continue
            call.core.finish(grpc.StatusCode.OK, "", trailers or (), payload)

    def fail(self, call: Call, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        if isinstance(call, StreamCall):
            call.answer = failed(call.message, code, message, trailers)
            call.via.flush()
            return
        call.core.finish(code, message, trailers, b"")

    def server_stopped(self) -> None:
        self.end_streams()
        self._is_stopped = True

    def end_streams(self) -> None:
        self._streams.stop()

    def is_closed(self) -> bool:
        return self._is_stopped and self._open == 0 and not self._streams and self._ready.empty()

    def close(self) -> None:
        """Does nothing: the lane holds nothing of its own."""


def _deadline(context: grpc.ServicerContext) -> float:
    """Returns monotonic seconds; infinity if there is no deadline."""
    remaining = context.time_remaining()
    return monotonic_at(time.time() + remaining) if remaining is not None else float("inf")


class _WaitingCall:
    """The answer that a handler thread waits for."""

    __slots__ = ("code", "context", "details", "is_done", "payload", "trailers")

    def __init__(self, context: grpc.ServicerContext) -> None:
        self.context = context
        self.is_done = threading.Event()
        self.code = grpc.StatusCode.OK
        self.details = ""
        self.trailers: Trailers = ()
        self.payload = b""

    def watch(self, call: Call, on_gone: OnGone) -> None:
        """Watches a call. gRPC tells the end of every call; only an end before the answer means that the caller is gone."""
        is_watched, call.on_gone = call.on_gone is not None, on_gone
        if is_watched:
            if call.is_gone:
                on_gone(call)
            return

        def ended() -> None:
            if not self.is_done.is_set():
                call.is_gone = True
                if call.on_gone is not None:
                    call.on_gone(call)

        if not self.context.add_callback(ended):  # it has ended already
            ended()

    def finish(self, code: grpc.StatusCode, details: str, trailers: Trailers, payload: bytes) -> None:
        self.code, self.details, self.trailers, self.payload = code, details, trailers, payload
        self.is_done.set()
