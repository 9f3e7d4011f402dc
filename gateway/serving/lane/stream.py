"""
One stream of ModelStreamInfer, as both lanes see it: its messages under way, in order, and the form of its answers.

Every message is a call of its own, so that nothing above a lane knows of streams. Answers may be ready in any order and
are given by several threads; they go out in the order of the requests. The moving of bytes is the lane's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import PUSHBACK_KEY
from gateway.serving.lane.call import Call, OnGone, Trailers
from gateway.serving.oip.decode import id_field_of
from gateway.serving.oip.fields import varint

MAX_UNDER_WAY = 256  # messages of one stream; beyond it nothing further is received, and HTTP/2's flow control pushes back
MAX_UNDER_WAY_BYTES = 64 * 1024 * 1024  # of requests, likewise; one message always fits
LAST_CHANCE_S = 1.0  # a stream that is to end and never idle receives that much longer
# Before its end a stream must have been quiet for that long. After a goodbye gRPC core closes the connection with its last
# stream, and a socket that is closed while the client still sends makes the client's kernel throw away unread answers.
QUIET_S = 0.2
STOPPING = "stopping: open another stream"
TOO_OLD = "the connection's maximum age is reached: open another stream"
_RESPONSE = b"\x12"  # field 2, length-delimited
# Triton's word that no further answer to this request follows: a parameter, appended to the response as protobuf allows.
_IS_FINAL: bytes = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()


class StreamCall(Call):
    """A message of a stream. ``answer`` is the encoded response when it is ready; ``on_gone`` is told when watched."""

    __slots__ = ("answer",)

    def __init__(self, stream: Stream, message: bytes) -> None:
        self.core = None
        self.deadline = stream.deadline
        self.metadata = stream.metadata
        self.message = message
        self.is_gone = False
        self.on_gone: OnGone | None = None
        self.via = stream
        self.answer: bytes | None = None


class Stream:
    """
    State of one stream; ``lock`` guards all of it. ``waiting`` are the messages received whose answers gRPC has not taken
    over yet. ``is_half_closed``: the client sends nothing more. ``is_gone``: it waits for nothing more. ``ending_since``: the
    stream ends once it is quiet; ``is_refusing``: nothing more is received until then; ``may_finish``: now.
    """

    __slots__ = (
        "deadline", "ending_since", "is_gone", "is_half_closed", "is_refusing", "is_sending", "lock", "may_finish", "metadata",
        "quiet_at", "quiet_since", "reason", "received", "started_at", "under_way_bytes", "waiting",
    )  # fmt: skip

    def __init__(self, deadline: float, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.deadline = deadline
        self.metadata = metadata
        self.lock = threading.Lock()
        self.waiting: deque[StreamCall] = deque()
        self.under_way_bytes = 0
        self.received = 0  # messages so far
        self.is_half_closed = self.is_gone = self.is_refusing = self.is_sending = self.may_finish = False
        self.started_at = time.monotonic()
        self.ending_since = 0.0  # monotonic seconds; 0: it is not ending
        self.quiet_since, self.quiet_at = 0.0, -1  # when an end was last put off, and how much had been received then
        self.reason = ""

    @property
    def has_room(self) -> bool:
        """Whether another message may be received."""
        return len(self.waiting) < MAX_UNDER_WAY and self.under_way_bytes < MAX_UNDER_WAY_BYTES and not self.is_refusing

    def admit(self, message: bytes) -> StreamCall:
        """The call of a message that was received; holding the lock."""
        call = StreamCall(self, message)
        self.waiting.append(call)
        self.received += 1
        self.under_way_bytes += len(message)
        return call

    def next_answer(self) -> bytes | None:
        """The answer whose turn it is, if it is ready; holding the lock. The caller sends it."""
        waiting = self.waiting
        if not waiting or waiting[0].answer is None:
            return None
        call = waiting.popleft()
        self.under_way_bytes -= len(call.message)
        return call.answer

    def watch(self, call: StreamCall, on_gone: OnGone) -> None:
        """See Lane.watch."""
        with self.lock:
            call.on_gone = on_gone
            is_late = self.is_gone
        if is_late:
            call.is_gone = True
            on_gone(call)

    def lose(self) -> list[StreamCall]:
        """The client is gone: returns the watched calls that are to be told so. Holding the lock."""
        self.is_gone = True
        unanswered = [call for call in self.waiting if call.answer is None]
        for call in unanswered:
            call.is_gone = True
        return [call for call in unanswered if call.on_gone is not None]

    def end(self, reason: str) -> None:
        """
        The stream is to end once everything is answered and it has been quiet for a while. To be called again and again;
        one that is never quiet is refused further messages after its last chance.
        """
        now = time.monotonic()
        with self.lock:
            if not self.ending_since:
                self.ending_since, self.reason = now, reason
            self.is_refusing = now - self.ending_since >= LAST_CHANCE_S
            if self.waiting or self.is_sending or self.received != self.quiet_at:
                self.quiet_since, self.quiet_at = now, self.received
            self.may_finish = now - self.quiet_since >= QUIET_S
            self._advance()

    def flush(self) -> None:
        """Answers of this stream have become ready."""
        with self.lock:
            self._advance()

    def abandon(self) -> None:
        """Sends nothing any more."""
        with self.lock:
            self.is_gone = True

    def _advance(self) -> None:
        """Does what is next: sends the answer whose turn it is, goes on receiving, ends. Holding the lock."""
        raise NotImplementedError


def tell_gone(calls: Sequence[StreamCall]) -> None:
    """Tells the watchers of calls; not holding the lock, since they may take locks of their own."""
    for call in calls:
        if call.on_gone is not None:
            call.on_gone(call)


def answered(payload: bytes) -> bytes:
    """ModelStreamInferResponse around an encoded ModelInferResponse."""
    return b"".join((_RESPONSE, varint(len(payload) + len(_IS_FINAL)), payload, _IS_FINAL))


def failed(request: bytes, code: Any, message: str, trailers: Trailers) -> bytes:
    """
    ModelStreamInferResponse for a request that failed: the text, and the request's id so that the client knows which one.
    ``code`` is a grpc.StatusCode. Never an empty text, as that would mean success.
    """
    response = pb.ModelInferResponse()
    response.MergeFromString(id_field_of(request))
    response.parameters["error_code"].string_param = code.name
    for key, value in trailers:
        if key == PUSHBACK_KEY:
            response.parameters["retry_after_ms"].int64_param = int(value)
    encoded: bytes = pb.ModelStreamInferResponse(error_message=message or code.name).SerializeToString()
    return encoded + answered(response.SerializeToString())
