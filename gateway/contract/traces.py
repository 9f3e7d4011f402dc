"""The traced requests that workers send; control makes spans of them and exports them. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLED = 0x01  # of W3C's flags


@dataclass(frozen=True, slots=True)
class TraceContext:
    """
    Where a request's spans belong: the trace (32 hex digits, as in W3C's ``traceparent``), the caller's span (0: the request
    starts the trace) and W3C's flags.
    """

    trace_id: str
    parent_id: int = 0
    flags: int = SAMPLED

    @property
    def is_sampled(self) -> bool:
        """Whether the one who started the trace wants it recorded."""
        return bool(self.flags & SAMPLED)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a request's life, from ``start_ns`` to ``end_ns`` in Unix nanoseconds: route, queue, run."""

    name: str
    start_ns: int
    end_ns: int


@dataclass(slots=True)  # not frozen: the lane's thread makes these, and a frozen one takes three times as long
class RequestTrace:
    """
    One finished request. ``context`` is what `Tracing.sample` answered, ``traceparent`` the caller's header, if any.

    ``method`` is "package.Service/Method"; ``code`` the gRPC code's name; ``version`` the resolved version that served (0:
    none did); ``rows`` those of the request, ``batch_rows`` those of the batch in which it ran; ``unit_hash`` a hash of the
    unit id, never the id itself; ``error`` the text that the caller got. Times are Unix nanoseconds, in the order in which
    they come: from its arrival over `stages` to its answer. ``run_ns`` is 0 where it was not run.
    """

    context: TraceContext | None
    method: str
    code: str
    start_ns: int
    routed_ns: int
    taken_ns: int
    run_ns: int
    ran_ns: int
    end_ns: int
    model: str = ""
    version: int = 0
    arm: str = ""
    rows: int = 0
    batch_rows: int = 0
    prediction_id: str = ""
    unit_hash: str = ""
    error: str = ""
    traceparent: str | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What it went through."""
        before = Stage("route", self.start_ns, self.routed_ns), Stage("queue", self.routed_ns, self.taken_ns)
        return (*before, Stage("run", self.run_ns, self.ran_ns)) if self.run_ns else before


@dataclass(frozen=True, slots=True)
class Traces:
    """Requests that are traced, finished since the last message. Each has a context."""

    requests: tuple[RequestTrace, ...]
