"""
One stream of ModelStreamInfer, as both lanes see it: its messages in flight, in order, and the form of its answers.

Every message is a call of its own, so nothing above a lane knows of streams. Several threads give answers in any order;
they are sent in the order of the requests. The lanes move the bytes.
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
    """A message of a stream. ``answer`` is the encoded response, None until it is ready."""

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
    The state of one stream, guarded by ``lock``. ``waiting`` are the messages received whose answers gRPC has not accepted
    yet. ``is_half_closed``: the client sends no more messages. ``is_gone``: the client no longer waits. ``ending_since``: the
    stream ends when it is quiet. ``is_refusing``: it receives no more until then. ``may_finish``: it may end now.
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
        self.quiet_since, self.quiet_at = 0.0, -1  # time and message count when ending was last postponed
        self.reason = ""

    @property
    def has_room(self) -> bool:
        """Whether another message may be received."""
        return len(self.waiting) < MAX_UNDER_WAY and self.under_way_bytes < MAX_UNDER_WAY_BYTES and not self.is_refusing

    def admit(self, message: bytes) -> StreamCall:
        """Makes the call of a received message. The caller holds the lock."""
        call = StreamCall(self, message)
        self.waiting.append(call)
        self.received += 1
        self.under_way_bytes += len(message)
        return call

    def next_answer(self) -> bytes | None:
        """Removes and returns the next answer in order, if it is ready. The caller holds the lock, and sends it."""
        waiting = self.waiting
        if not waiting or waiting[0].answer is None:
            return None
        call = waiting.popleft()
        self.under_way_bytes -= len(call.message)
        return call.answer

    def watch(self, call: StreamCall, on_gone: OnGone) -> None:
        with self.lock:
            call.on_gone = on_gone
            is_late = self.is_gone
        if is_late:
            call.is_gone = True
            on_gone(call)

    def lose(self) -> list[StreamCall]:
        """Takes in that the client is gone. Returns the calls to notify. The caller holds the lock."""
        self.is_gone = True
        unanswered = [call for call in self.waiting if call.answer is None]
        for call in unanswered:
            call.is_gone = True
        return [call for call in unanswered if call.on_gone is not None]

    def end(self, reason: str) -> None:
        """
        Ends the stream once everything is answered and it has been quiet for a while. Called repeatedly. A stream that is
        never quiet receives no further messages after LAST_CHANCE_S.
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
        """Sends answers that have become ready."""
        with self.lock:
            self._advance()

    def abandon(self) -> None:
        """Stops sending."""
        with self.lock:
            self.is_gone = True

    def _advance(self) -> None:
        """Does the next step: sends the next answer, receives more, or ends. The caller holds the lock."""
        raise NotImplementedError


def tell_gone(calls: Sequence[StreamCall]) -> None:
    """Notifies the watchers of calls. The caller does not hold the lock, since watchers may take locks of their own."""
    for call in calls:
        if call.on_gone is not None:
            call.on_gone(call)


def answered(payload: bytes) -> bytes:
    """Returns the ModelStreamInferResponse around an encoded ModelInferResponse."""
    return b"".join((_RESPONSE, varint(len(payload) + len(_IS_FINAL)), payload, _IS_FINAL))


def failed(request: bytes, code: Any, message: str, trailers: Trailers) -> bytes:
    """
    Returns the ModelStreamInferResponse for a request that failed: the text, and the request's id. ``code`` is a
    grpc.StatusCode. The text is never empty, as that would mean success.
    """
    response = pb.ModelInferResponse()
    response.MergeFromString(id_field_of(request))
    response.parameters["error_code"].string_param = code.name
    for key, value in trailers:
        if key == PUSHBACK_KEY:
            response.parameters["retry_after_ms"].int64_param = int(value)
    encoded: bytes = pb.ModelStreamInferResponse(error_message=message or code.name).SerializeToString()
    return encoded + answered(response.SerializeToString())
