"""Calls as lanes hand them over, and the protocol of a lane. The lanes themselves are `fast` and `standard`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

Trailers = tuple[tuple[str, str | bytes], ...]
Refusal = tuple[grpc.StatusCode, str, Trailers]  # code, message, trailing metadata


class Call:
    """
    One call: its request ``message``, ``deadline`` (monotonic seconds; infinite if there is none) and ``metadata``.

    ``is_gone``: the caller no longer waits; known of watched calls only. ``on_gone`` is called then. ``core`` is the lane's
    own handle. ``via`` is what the answer goes through if the call is not plain: its stream or its watch; else None.
    """

    __slots__ = ("core", "deadline", "is_gone", "message", "metadata", "on_gone", "via")

    def __init__(self, core: Any, deadline: float, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.core = core
        self.deadline = deadline
        self.metadata = metadata
        self.message = b""
        self.is_gone = False
        self.on_gone: OnGone | None = None
        self.via: Any = None

    def __repr__(self) -> str:
        return f"<call of {len(self.message)} bytes{' gone' if self.is_gone else ''}>"


OnGone = Callable[[Call], None]


class Lane(Protocol):
    """
    One thread takes calls; any thread answers them. Every call taken must be answered exactly once, by `reply` or `fail`.

    A message of a stream is a call like any other. Answers keep the order of the stream's messages. A failure is an answer
    too, and the stream goes on.
    """

    kind: str

    def start(self) -> None:
        """Begins to accept calls. Called after the server's own ``start``."""
        ...

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        """Returns every call that is ready, up to ``max_calls``; waits at most ``timeout_s`` for the first."""
        ...

    def watch(self, calls: Sequence[Call], on_gone: OnGone) -> None:
        """
        Notifies early when a caller no longer waits: it cancelled or disconnected, or its deadline passed. Then ``is_gone``
        becomes True and ``on_gone(call)`` is called, unless the call is answered already. A gone call must still be
        answered, like every other. Watching a call again replaces its ``on_gone``, which is called at once if the caller
        is gone already.

        For calls that will be queued. Only the taking thread watches, before another thread may answer the call. Any thread
        may call ``on_gone`` (on a fast lane the taking one, inside `take`), even within `watch` and while an answer is being
        sent. It must neither block nor raise.
        """
        ...

    def reply(self, answers: Sequence[tuple[Call, bytes]], trailers: Trailers | None = None) -> None:
        """Answers calls with serialized messages and status OK."""
        ...

    def fail(self, call: Call, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        """Ends one call with an error."""
        ...

    def end_streams(self) -> None:
        """
        Tells the lane that the server stops: idle streams end with UNAVAILABLE now, others once what was received is
        answered. Any thread may call it, more than once.
        """
        ...

    def server_stopped(self) -> None:
        """Tells the lane that the server has stopped and every call has ended, so that it may be closed."""
        ...

    def is_closed(self) -> bool:
        """Whether the server has stopped and every call taken is answered: no further call will come."""
        ...

    def close(self) -> None:
        """Frees the lane. Only called when it is closed."""
        ...
