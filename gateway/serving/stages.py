"""
The stages of a request, in order: `Received` → `Routed` → `Batch` → `Outputs` → `Answers`.

Each stage is a class of its own, and a later one holds the earlier one, so a function's argument says how far a request
is. Times are nanoseconds of the performance counter unless the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.traces import TraceContext
from gateway.runtime.halt import Halt
from gateway.runtime.session import Array
from gateway.serving.arm import Arm
from gateway.serving.lane.call import Call, Trailers
from gateway.serving.lease import Lease
from gateway.serving.oip.decode import NO_PARAMETERS, InferRequest, Parameters, RequestSignature
from gateway.serving.run_plan import RunPlan
from gateway.serving.shared_memory.regions import Memory


class Received(InferRequest):
    """
    A decoded request with its call. The decoder makes it, `intake` sets the rest at once.

    ``expires_at`` (monotonic seconds) is when the caller stops waiting. ``unit_id`` is the key of sticky routing, "" for none.
    ``trace`` is set for requests that are traced; ``traceparent`` is the caller's header.
    """

    __slots__ = ("call", "expires_at", "received_ns", "trace", "traceparent", "unit_id", "wants_trailers")

    def __init__(
        self,
        signature: RequestSignature,
        contents: list[bytes | memoryview],
        id_field: bytes,
        parameters: Parameters = NO_PARAMETERS,
    ) -> None:
        self.signature = signature  # the base class would set these four in a call of its own
        self.contents = contents
        self.id_field = id_field
        self.parameters = parameters
        self.unit_id = parameters.unit_id
        self.trace: TraceContext | None = None
        self.traceparent: str | None = None
        self.wants_trailers = False
        self.call: Call
        self.received_ns: int
        self.expires_at: float


class Routed:
    """
    A request with the arm that answers it and the plan of its run.

    ``inputs`` are its inputs as arrays if they had to be decoded by themselves and are by now, else None. ``memory`` is the
    shared memory that it uses, None for most requests.
    """

    __slots__ = ("arm", "inputs", "memory", "plan", "received", "routed_ns")

    def __init__(self, received: Received, arm: Arm, plan: RunPlan) -> None:
        self.received = received
        self.arm = arm
        self.plan = plan
        self.inputs: dict[str, Array] | None = None
        self.memory: Memory | None = None
        self.routed_ns = received.received_ns

    def __repr__(self) -> str:
        return f"<request for {self.arm!r}, {self.plan.rows} rows>"


class Batch:
    """
    Requests of one version that share a run, with the lease that covers them. ``halt`` stops the run when every caller is
    gone; None for runs in the lane's thread.
    """

    __slots__ = ("halt", "lease", "requests")

    def __init__(self, requests: list[Routed], lease: Lease, halt: Halt | None = None) -> None:
        self.requests = requests
        self.lease = lease
        self.halt = halt

    def __repr__(self) -> str:
        return f"<batch of {len(self.requests)} requests, {self.lease!r}>"


class Outputs:
    """
    The outputs of one run, over all rows of its requests.

    ``received`` are the requests as received. ``arrays`` follow the plan's ``run_outputs``; ``rows`` are those of each
    request. ``processor_ns`` is the run's
    processor time, 0 where it was not measured. ``is_uniform``: all requests go to one arm and were received together,
    the usual case, which is encoded and counted at once.
    """

    __slots__ = ("arrays", "is_uniform", "joined_ns", "processor_ns", "ran_ns", "received", "requests", "rows", "taken_ns")

    def __init__(self, requests: list[Routed], arrays: list[Array], taken_ns: int, joined_ns: int, ran_ns: int) -> None:
        self.requests = requests
        self.received = [request.received for request in requests]
        self.arrays = arrays
        self.rows = [request.plan.rows for request in requests]
        self.taken_ns = taken_ns
        self.joined_ns = joined_ns
        self.ran_ns = ran_ns
        self.processor_ns = 0
        self.is_uniform = _is_uniform(requests)

    @property
    def run_ns(self) -> int:
        """Nanoseconds of the run."""
        return self.ran_ns - self.joined_ns


class Answers:
    """
    The encoded responses of one run. ``payloads`` has one per request; ``trailers`` those of the few requests that ask for
    trailing metadata, by position.

    The prediction id of a request is ``id_head`` followed by its counter in 12 hex digits; ``time_ms`` (Unix milliseconds)
    is the time in it. ``sent_ns`` is set when all are sent.
    """

    __slots__ = ("counters", "id_head", "outputs", "payloads", "sent_ns", "time_ms", "trailers")

    def __init__(
        self, outputs: Outputs, payloads: list[tuple[Call, bytes]], time_ms: int, id_head: str, counters: Sequence[int]
    ) -> None:
        self.outputs = outputs
        self.payloads = payloads
        self.time_ms = time_ms
        self.id_head = id_head
        self.counters = counters
        self.trailers: dict[int, Trailers] = {}
        self.sent_ns = 0


def _is_uniform(requests: list[Routed]) -> bool:
    first = requests[0]
    arm, received_ns = first.arm, first.received.received_ns
    for request in requests:  # noqa: SIM110  # a plain loop is the quickest
        if request.arm is not arm or request.received.received_ns != received_ns:
            return False
    return True
