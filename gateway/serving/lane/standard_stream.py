"""A stream on the standard lane: a thread of its own receives, the server's thread waits for answers and sends them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import grpc

from gateway.serving.lane.call import Call
from gateway.serving.lane.stream import Stream, tell_gone


class StandardStream(Stream):
    """Calls ``closed`` once, when the stream is over and every message is answered."""

    __slots__ = ("_changed", "_closed", "_is_finished", "_is_over")

    def __init__(self, deadline: float, metadata: Sequence[tuple[str, str | bytes]], closed: Callable[[Stream], None]) -> None:
        super().__init__(deadline, metadata)
        self._changed = threading.Condition(self.lock)
        self._closed = closed
        self._is_finished = self._is_over = False

    def receive(self, requests: Iterator[bytes], put: Callable[[Call], None]) -> None:
        """Hands over every message, waiting while there is no room."""
        try:
            for message in requests:
                with self._changed:
                    if self.is_gone or self._is_finished:
                        return
                    put(self.admit(message))
                    while not self.has_room and not self.is_gone and not self._is_finished:
                        self._changed.wait()
        except grpc.RpcError:
            pass  # the client is gone, and gRPC calls `over`
        finally:
            with self._changed:
                self.is_half_closed = True
                self._changed.notify_all()

    def answers(self, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Yields every answer in order, then ends the stream."""
        while (answer := self._next()) is not None:
            yield answer
        if not self.is_half_closed and not self.is_gone:
            context.abort(grpc.StatusCode.UNAVAILABLE, self.reason)

    def _next(self) -> bytes | None:
        with self._changed:
            self.is_sending = False
            while not self.is_gone:
                answer = self.next_answer()
                if answer is not None:
                    self.is_sending = True
                    self._changed.notify_all()  # there is room
                    return answer
                if not self.waiting and (self.is_half_closed or self.may_finish):
                    break
                self._changed.wait()
            self._is_finished = True
            self._changed.notify_all()
            return None

    def over(self) -> None:
        """The call has ended. If messages are unanswered, the client has ended it."""
        with self._changed:
            self._is_over = True
            gone = self.lose()
            self._advance()
        tell_gone(gone)

    def _advance(self) -> None:
        if self.is_gone:
            while self.next_answer() is not None:
                pass
        if self._is_over and not self.waiting:
            self._closed(self)
        self._changed.notify_all()
