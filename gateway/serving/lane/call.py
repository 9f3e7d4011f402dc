"""A call as lanes hand it over, and what a lane is. Lanes themselves are in `fast_lane` and `standard_lane`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

Trailers = tuple[tuple[str, str | bytes], ...]


class Call:
    """
    One call: its request ``message`` (bytes), ``deadline`` (Unix seconds; far in the future when none) and ``metadata``
    (pairs). ``is_gone``: nobody waits for the answer any more; known of watched calls only. ``owner`` is free for whoever
    took the call (unset until then). ``core`` is the lane's own handle, ``via`` answers for calls that are not plain (None).
    """

    __slots__ = ("core", "deadline", "is_gone", "message", "metadata", "owner", "via")

    owner: Any

    def __init__(self, core: Any, deadline: float, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.core = core
        self.deadline = deadline
        self.metadata = metadata
        self.message = b""
        self.is_gone = False
        self.via: Any = None


OnGone = Callable[[Call], None]


class Lane(Protocol):
    """
    One thread takes; any thread replies. Every call taken must be answered exactly once, by `reply` or `fail`.

    A message of a stream is a call like any other. Its answer keeps the order of the stream's messages, its failure is an
    answer too, and the stream goes on.
    """

    kind: str

    def start(self) -> None:
        """Begins to accept calls; after the server's own ``start``."""
        ...

    def take(self, max_calls: int, timeout_s: float) -> list[Call]:
        """Every call that is ready, up to ``max_calls``; waits at most ``timeout_s`` for the first."""
        ...

    def watch(self, calls: Sequence[Call], on_gone: OnGone) -> None:
        """
        Has the lane tell early when nobody waits for one of these calls any more: the client cancelled or disconnected, or
        the deadline passed. Then ``is_gone`` becomes True and ``on_gone(call)`` is called, once, unless the call has been
        answered already. A gone call must still be answered, like every other.

        For calls that will wait; only by the taking thread, and before another thread may answer them. ``on_gone`` is
        called by any thread (the taking one inside `take`, on a fast lane), even within `watch`, and it may cross an answer
        that is just being given. It must neither wait nor raise.
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
        The server stops: streams that idle end with UNAVAILABLE now, others as soon as what was received is answered. May be
        called by any thread, more than once.
        """
        ...

    def is_closed(self) -> bool:
        """Whether the server has stopped and every call taken is finished: nothing will come any more."""
        ...

    def close(self) -> None:
        """Frees the lane; only when closed."""
        ...
