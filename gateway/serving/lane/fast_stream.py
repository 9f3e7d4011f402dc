"""
A stream on the fast lane: its receive, send and close are operations of gRPC core, each with a completion of its own.

A message has two completions. When it is received, the next receive starts at once, so that one poll of the queue gathers
all messages that have arrived. When its answer is accepted, the next ready answer is sent. gRPC allows one send at a time.
With further answers ready, a send says so (the buffer hint), and gRPC core writes them to the socket together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from gateway.clock import monotonic_at
from gateway.serving.lane.call import Call
from gateway.serving.lane.stream import Stream, tell_gone


@dataclass(frozen=True, slots=True)
class StreamOperations:
    """The parts of grpc's private layer that a stream uses; only `fast` imports that layer."""

    send_initial: Any
    receive_close: Any
    receive_message: Callable[[int], Any]
    send_message: Callable[[bytes, int], Any]
    status: Callable[[grpc.StatusCode, str], Any]
    buffer_hint: int


class FastStream(Stream):
    """Calls ``closed`` once, when the stream has ended: no completion is due and every message is answered."""

    __slots__ = ("_closed", "_core", "_due", "_has_begun", "_is_finished", "_is_receiving", "_operations",
                 "_receive")  # fmt: skip

    def __init__(self, event: Any, operations: StreamOperations, closed: Callable[[Stream], None]) -> None:
        super().__init__(monotonic_at(event.call_details.deadline), event.invocation_metadata)
        self._core = event.call
        self._operations = operations
        self._closed = closed
        self._receive = operations.receive_message(0)  # one at a time, so one object serves for all
        self._due = 1  # completions
        self._has_begun = self._is_finished = self._is_receiving = False
        self._core.start_server_batch((operations.receive_close,), self._on_close)
        with self.lock:
            self._receive_next()

    # ---- completions: the taking thread ------------------------------------------------------------------------------

    def _on_message(self, event: Any, calls: list[Call]) -> None:
        message = self._receive.message()
        with self.lock:
            if message is None or self._is_finished:  # no more: half-closed, cancelled, or ended by us
                self._due -= 1
                self._is_receiving = False
                self.is_half_closed = True
                self._advance()
                return
            calls.append(self.admit(message))
            if self.has_room:
                self._core.start_server_batch((self._receive,), self._on_message)
            else:
                self._due -= 1
                self._is_receiving = False

    def _on_sent(self, event: Any, calls: list[Call]) -> None:
        with self.lock:
            self._due -= 1
            self.is_sending = False
            self._advance()

    def _on_finished(self, event: Any, calls: list[Call]) -> None:
        with self.lock:
            self._due -= 1
            self._advance()

    def _on_close(self, event: Any, calls: list[Call]) -> None:
        """The stream has ended: after our status, or before it if the client is gone or the deadline has passed."""
        with self.lock:
            self._due -= 1
            gone = [] if self._is_finished else self.lose()
            self._advance()
        tell_gone(gone)

    # ---- holding the lock --------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        if self.is_gone:
            while self.next_answer() is not None:
                pass
        elif not self.is_sending:
            answer = self.next_answer()
            if answer is not None:
                self._send(answer)
            elif not self.waiting and (self.is_half_closed or self.may_finish) and not self._is_finished:
                self._finish()
        if not self._due and not self.waiting:
            self._closed(self)

    def _send(self, answer: bytes) -> None:
        operations, waiting = self._operations, self.waiting
        # The first answer carries the initial metadata, which gRPC core would hold back, and its completion with it.
        has_more = self._has_begun and waiting and waiting[0].answer is not None
        message = operations.send_message(answer, operations.buffer_hint if has_more else 0)
        self.is_sending = True
        self._due += 1
        if self._has_begun:
            self._core.start_server_batch((message,), self._on_sent)
        else:
            self._has_begun = True
            self._core.start_server_batch((operations.send_initial, message), self._on_sent)
        if not self._is_receiving and not self.is_half_closed and self.has_room:
            self._receive_next()

    def _receive_next(self) -> None:
        self._is_receiving = True
        self._due += 1
        self._core.start_server_batch((self._receive,), self._on_message)

    def _finish(self) -> None:
        """Sends the status: OK if the client has closed its side, UNAVAILABLE if we end the stream."""
        self._is_finished = True
        operations = self._operations
        ok = self.is_half_closed
        status = operations.status(grpc.StatusCode.OK if ok else grpc.StatusCode.UNAVAILABLE, "" if ok else self.reason)
        self._due += 1
        self._core.start_server_batch((status,) if self._has_begun else (operations.send_initial, status), self._on_finished)
