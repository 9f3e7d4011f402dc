"""
The fast lane: a completion queue of its own on the server's core, polled by one thread.

Only this file uses grpcio's private Cython layer (``grpc._cython.cygrpc``), on which grpcio's own ``_server.py`` is
written. So grpcio is bounded above in pyproject.toml, and `fast_lane_problem` checks every name before it is used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import grpc
import structlog
from grpc._cython import cygrpc

from gateway.clock import monotonic_at
from gateway.serving.lane.call import Call, OnGone, Trailers
from gateway.serving.lane.cork import Corks
from gateway.serving.lane.fast_stream import FastStream, StreamOperations
from gateway.serving.lane.open_streams import Streams
from gateway.serving.lane.stream import Stream, StreamCall, answered, failed

OUTSTANDING = 256  # calls that gRPC core may hand over before the lane requests more
OUTSTANDING_STREAMS = 16
CORKED_FROM = 4  # answers sent together from which on corking pays
PUSHED_EVERY = 16  # answers after which those gathered are sent, so that the peer can start on them
_log = structlog.get_logger("interlock.lane")


class FastLane:
    """Receives and answers calls on a gRPC completion queue that the caller's own thread polls."""

    kind = "fast"

    def __init__(self, server: Any, method: str, stream_method: str = "", max_stream_age_s: float = 0.0) -> None:
        self._core = server._cy_server
        self._queue = cygrpc.CompletionQueue()
        self._core.register_completion_queue(self._queue)
        self._method, self._stream_method = method, stream_method
        for name in filter(None, (method, stream_method)):
            self._core.register_method(name)
        self._requested = 0  # call requests outstanding at gRPC core; changed by the taking thread only
        self._open = 0  # completions due for received calls; changed by the taking thread only
        self._streams = Streams(max_stream_age_s)
        self._corks = Corks()
        # Operations without data of a call are shared: they hold no state between start and completion.
        self._send_initial = cygrpc.SendInitialMetadataOperation(None, 0)
        self._status_ok = cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", 0)
        self._receive_close = cygrpc.ReceiveCloseOnServerOperation(0)
        self._operations = StreamOperations(
            self._send_initial,
            self._receive_close,
            cygrpc.ReceiveMessageOperation,
            cygrpc.SendMessageOperation,
            _status,
            cygrpc.WriteFlag.buffer_hint,
        )

    def start(self) -> None:
        for _ in range(OUTSTANDING):
            self._request_call(self._method, _REQUESTED)
        if self._stream_method:
            for _ in range(OUTSTANDING_STREAMS):
                self._request_call(self._stream_method, self._receive_stream)

    def _request_call(self, method: str, tag: Any) -> None:
        try:
            self._core.request_registered_call(self._queue, self._queue, method, tag)
            self._requested += 1
        except Exception as error:  # gRPC core refuses requests for calls once it shuts down
            _log.debug("lane_requests_no_calls", error=str(error))

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        calls: list[Call] = []
        now = time.monotonic()
        if now >= self._streams.due_at:
            self._streams.tend(now)
        poll, until = self._queue.poll, now + timeout_s
        event = poll(time.time() + timeout_s)  # gRPC's queue takes Unix seconds
        while True:
            if event.completion_type == _TIMEOUT:
                left_s = until - time.monotonic()
                if calls or left_s <= 0:
                    return calls
                event = poll(time.time() + left_s)
                continue
            tag = event.tag
            if tag is _FINISHED:
                self._open -= 1
            elif tag is _REQUESTED:
                self._receive(event)
            else:
                if tag.__class__ is not Call:  # a stream's, or a watch's
                    tag(event, calls)
                elif event.success and (message := event.batch_operations[0].message()) is not None:
                    tag.message = message
                    calls.append(tag)
                else:  # the client went away before its message came
                    self.fail(tag, grpc.StatusCode.CANCELLED, "cancelled", ())
                if len(calls) >= max_calls:
                    return calls
            event = poll(0)

    def _receive(self, event: Any) -> None:
        self._requested -= 1
        if not event.success:
            self.end_streams()
            return
        call = Call(event.call, monotonic_at(event.call_details.deadline), event.invocation_metadata)
        self._open += 1
        event.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), call)
        self._request_call(self._method, _REQUESTED)

    def _receive_stream(self, event: Any, calls: list[Call]) -> None:
        self._requested -= 1
        if not event.success:
            self.end_streams()
            return
        self._streams.add(FastStream(event, self._operations, self._streams.discard))
        self._request_call(self._stream_method, self._receive_stream)

    def end_streams(self) -> None:
        """Ends streams. The lane calls it too, when gRPC core tells that it shuts down."""
        self._streams.stop()

    def watch(self, calls: Sequence[Call], on_gone: OnGone) -> None:
        """Waits for each call's close in an operation of its own; the answer of a watched call then leaves it out."""
        for call in calls:
            if isinstance(call, StreamCall):
                call.via.watch(call, on_gone)
                continue
            call.on_gone = on_gone
            if call.via is not None:  # watched already
                if call.is_gone:
                    on_gone(call)
                continue
            call.via = watch = _Watch(self, call)
            self._open += 1
            call.core.start_server_batch((self._receive_close,), watch.completed)

    def watch_completed(self) -> None:
        """Takes in that a watched call has ended. Only the taking thread calls it."""
        self._open -= 1

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        status = self._status_ok
        if trailers:
            status = cygrpc.SendStatusFromServerOperation(trailers, cygrpc.StatusCode.ok, b"", 0)
        if len(answers) < CORKED_FROM:
            self._send(answers, status)
            return
        # A connection with enough answers is in the sample; streams gather their own.
        sample = (call.core for call, _ in answers[::CORKED_FROM])
        corked = self._corks.cork({core.peer() for core in sample if core is not None})
        if not corked:
            self._send(answers, status)
            return
        try:
            for start in range(0, len(answers), PUSHED_EVERY):
                if start:
                    self._corks.push(corked)
                self._send(answers[start : start + PUSHED_EVERY], status)
        finally:
            self._corks.uncork(corked)

    def _send(self, answers: Sequence[tuple[Call, bytes]], status: Any) -> None:
        initial, close = self._send_initial, self._receive_close
        message = cygrpc.SendMessageOperation
        streams: set[Stream] | None = None
        for call, payload in answers:
            via = call.via
            if via is None:
                call.core.start_server_batch((initial, message(payload, 0), status, close), _FINISHED)
            elif via.__class__ is FastStream:
                call.answer = answered(payload)  # type: ignore[attr-defined]  # a StreamCall
                if streams is None:
                    streams = {via}
                else:
                    streams.add(via)
            else:
                via.is_answered = True
                call.core.start_server_batch((initial, message(payload, 0), status), _FINISHED)
        if streams is not None:
            for stream in streams:
                stream.flush()

    def fail(self, call: Call, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        if isinstance(call, StreamCall):
            call.answer = failed(call.message, code, message, trailers)
            call.via.flush()
            return
        status = _status(code, message, trailers)
        if call.via is None:
            call.core.start_server_batch((self._send_initial, status, self._receive_close), _FINISHED)
        else:
            call.via.is_answered = True
            call.core.start_server_batch((self._send_initial, status), _FINISHED)

    def server_stopped(self) -> None:
        """Does nothing: gRPC core tells the lane by itself when it shuts down."""

    def is_closed(self) -> bool:
        return self._requested == 0 and self._open == 0 and not self._streams

    def close(self) -> None:
        self._streams.abandon()  # a late answer must not reach a queue that is shut down
        self._queue.shutdown()
        while self._queue.poll(time.time() + 1).completion_type is not cygrpc.CompletionType.queue_shutdown:
            pass


_TIMEOUT = cygrpc.CompletionType.queue_timeout
_REQUESTED, _FINISHED = object(), object()


def _status(code: grpc.StatusCode, message: str, trailers: Trailers = ()) -> Any:
    return cygrpc.SendStatusFromServerOperation(trailers, code.value[0], message.encode(), 0)


class _Watch:
    """Waits for the end of one call. It comes after the answer, or before it if the caller is gone."""

    __slots__ = ("_call", "_lane", "is_answered")

    def __init__(self, lane: FastLane, call: Call) -> None:
        self._lane = lane
        self._call = call
        self.is_answered = False

    def completed(self, event: Any, calls: list[Call]) -> None:
        """Takes in the end of the call, and drops it: call and watch hold each other, and the collector runs seldom."""
        self._lane.watch_completed()
        call = self._call
        del self._call
        if not self.is_answered:
            call.is_gone = True
            if call.on_gone is not None:
                call.on_gone(call)


def fast_lane_problem(server: grpc.Server) -> str | None:
    """Returns why the fast lane cannot be used with the installed grpcio; None if it can."""
    core = getattr(server, "_cy_server", None)
    missing = [
        name
        for owner, names in (
            (core, ("register_completion_queue", "register_method", "request_registered_call")),
            (cygrpc, ("CompletionQueue", "CompletionType", "ReceiveMessageOperation", "SendMessageOperation", "WriteFlag")),
            (cygrpc, ("SendInitialMetadataOperation", "SendStatusFromServerOperation", "ReceiveCloseOnServerOperation")),
        )
        for name in names
        if not hasattr(owner, name)
    ]
    return f"grpcio {grpc.__version__} lacks {', '.join(missing)}" if missing else None
