"""
A lane that can delay its answers for a moment, while the server sends GOAWAY.

gRPC core cancels every call that arrives after its shutdown began, although the client knows of it only when the GOAWAY
frame has reached it. A caller that waits for an answer sends no new call on the connection. So while answers are delayed,
the GOAWAY frame overtakes them, and the next call uses another connection instead of being cancelled.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from gateway.serving.lane.opening import Call, Lane, OnGone, Trailers

HOLD_LIMIT_S = 1.0  # seconds after which answers are sent even without `release`


class LaneGate:
    """A lane around another lane. Any thread may call `hold` and `release`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._is_held = self._is_stopped = False
        self._released = threading.Event()
        self.kind = lane.kind

    def hold(self) -> None:
        """Delays taking and answering from now on."""
        self._is_held = True

    def release(self) -> None:
        """Ends the delay for good. The server has begun to stop, so streams end."""
        self._is_held = self._is_stopped = False
        self._released.set()
        self._lane.end_streams()

    def start(self) -> None:
        self._lane.start()

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        if self._is_held:
            self._released.wait(HOLD_LIMIT_S)
        return self._lane.take(max_calls, timeout_s)

    def watch(self, calls: Sequence[Call], on_gone: OnGone) -> None:
        self._lane.watch(calls, on_gone)

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        if self._is_held:
            self._released.wait(HOLD_LIMIT_S)
        self._lane.reply(answers, trailers)

    def fail(self, call: Call, code: Any, message: str, trailers: Trailers) -> None:
        if self._is_held:
            self._released.wait(HOLD_LIMIT_S)
        self._lane.fail(call, code, message, trailers)

    def end_streams(self) -> None:
        self._lane.end_streams()

    def server_stopped(self) -> None:
        self._lane.server_stopped()
        self._is_stopped = True

    def is_closed(self) -> bool:
        return self._is_stopped or self._lane.is_closed()

    def close(self) -> None:
        self._lane.close()
