"""
What control and workers tell each other, as plain values: desired state down, observed state and telemetry up.

Pure. `gateway.link` carries these (msgpack); nothing else crosses the line between the two kinds of process, so a
worker cannot tell whether control runs in the same process, on the same machine or elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.deployment import Batching, Segment, Shadow
from registry.signature import Signature
from registry.versions import Prediction

# ---- down: control -> worker ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DesiredVersion:
    """
    A version to hold ready. ``path`` is the ONNX file to load on this machine: the registered one, or that of its serving
    layout, for which the runtime is told ``session_config``. ``digest`` is the artifact's either way. ``examples`` is the
    file with example requests to warm it up with (`registry.examples`), empty when there are none.
    """

    number: int
    path: str
    digest: str
    signature: Signature
    prediction: Prediction | None
    is_batchable: bool
    batching: Batching
    examples: str = ""
    session_config: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DesiredRoute:
    """Who answers callers of a model: the deployment ``revision`` in the form that routing needs."""

    revision: int
    default: int
    segments: tuple[Segment, ...]
    salt: str
    shadow: Shadow | None
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DesiredModel:
    """
    The versions of one model to hold, and its route (None: hold only, nobody is routed here). ``aliases`` are names of
    versions where no route has them. ``unavailable`` says why callers are not answered for a while although the model is
    deployed; empty: there is no such reason.
    """

    name: str
    versions: tuple[DesiredVersion, ...]
    route: DesiredRoute | None
    aliases: Mapping[str, int] = field(default_factory=dict)
    unavailable: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """
    Bytes ``offset`` to ``offset + byte_size`` of the POSIX shared memory object ``key``, which callers may name as ``name``.
    ``identity`` tells the object from a later one of the same key.
    """

    name: str
    key: str
    offset: int
    byte_size: int
    identity: str


@dataclass(frozen=True, slots=True)
class DesiredState:
    """
    Everything a worker should hold and route. Always whole: what is left out is unloaded, the last one wins.

    ``revision`` grows with every state that control sends, over restarts of control too.
    """

    revision: int
    models: tuple[DesiredModel, ...] = ()
    regions: tuple[Region, ...] = ()


# ---- up: worker -> control ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """
    First message on every connection. ``incarnation`` is unique to one life of a worker process; ``epoch`` is the
    number in bits 26 to 0 of the random part of every prediction id it issues (`gateway.quality.prediction_id`).
    ``restarts`` says how often this worker died and was started again since the gateway was, ``replacements`` how often a
    rolling restart put another process in its place; control may have been away meanwhile. ``started_at`` (Unix seconds)
    is when this life began.
    """

    worker: int
    pid: int
    incarnation: str
    epoch: int
    lane: str
    restarts: int = 0
    replacements: int = 0
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """
    What became of one version in one worker. ``state`` is a `lifecycle.states.VersionState` name. Memory is what the process
    grew by while it loaded and warmed up, an estimate, since requests are served meanwhile: ``private_bytes`` its own,
    ``mapped_bytes`` pages of files, which workers share; ``memory_bytes`` is both.
    """

    model: str
    number: int
    state: str
    reason: str = ""
    memory_bytes: int = 0
    load_ms: float = 0.0
    in_flight: int = 0
    private_bytes: int = 0
    mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """
    Sent after every change. ``revision`` is the last desired state taken; ``routes`` the deployment revision in force
    per model (a model's route changes only when every version it names is READY).
    """

    revision: int
    versions: tuple[ObservedVersion, ...]
    routes: Mapping[str, int]
    is_serving: bool


# Upper bounds of the latency histogram in seconds, as Prometheus' `le`; one bucket more is +Inf.
LATENCY_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


@dataclass(slots=True)
class ArmCounts:
    """
    Everything counted for one (model, resolved version, arm) since the worker started. Mutable, because the request
    path adds to it; it crosses the link as a value. ``arm`` is default, candidate, pinned or shadow.
    """

    model: str
    version: int
    arm: str
    requests: dict[str, int] = field(default_factory=dict)  # by gRPC code name, e.g. "OK"
    latency_buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    latency_sum_s: float = 0.0
    rows: int = 0  # rows of successful requests ("inferences" in Triton's words)
    queue_ns: int = 0  # summed over successful requests
    decode_ns: int = 0
    run_ns: int = 0
    encode_ns: int = 0
    executions: dict[int, int] = field(default_factory=dict)  # runs by batch size in rows
    run_ns_by_size: dict[int, int] = field(default_factory=dict)
    last_inference_ms: int = 0  # Unix milliseconds


@dataclass(slots=True)
class ShadowCounts:
    """Comparison of a shadow's answers with the primary's since the worker started; per (model, primary, shadow)."""

    model: str
    primary: int
    shadow: int
    compared: int = 0  # rows for predictions that are classes, else requests
    disagreed: int = 0
    dropped: int = 0  # copies never run: queue full
    failed: int = 0  # copies whose run failed
    values: int = 0  # numbers compared
    sum_abs_diff: float = 0.0
    max_abs_diff: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """
    Counts since the start of this worker's ``incarnation``: cumulative, so the last one wins and none can be lost.
    ``connections`` are the clients' connections to it now, -1 where that is not known.
    """

    incarnation: str
    arms: tuple[ArmCounts, ...]
    shadows: tuple[ShadowCounts, ...]
    not_routed: Mapping[str, int]  # requests that reached no version, by gRPC code name
    in_flight: int
    rss_bytes: int
    loads: Mapping[str, int]  # "model|version|ok" and "model|version|failed"
    predictions_dropped: int = 0
    connections: int = -1
    private_bytes: int = 0  # of rss_bytes, what no other process shares
    parked: int = 0  # requests that wait for a version to be loaded
    traces_dropped: int = 0


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """
    Predictions of one version since the last message, in columns (one entry per request unless said otherwise).

    ``epoch``, ``times_ms`` and ``counters`` are the parts of the responses' prediction ids (`gateway.quality.prediction_id`);
    ``inference_ids`` are the callers' own ids or ""; ``rows`` the rows of each request. Flat over all rows: ``labels`` when the
    kind is class (labels as text), ``numbers`` when it is value.
    """

    model: str
    version: int
    arms: tuple[str, ...]
    kind: str  # "class" or "value"
    epoch: int
    times_ms: tuple[int, ...]
    counters: tuple[int, ...]
    inference_ids: tuple[str, ...]
    rows: tuple[int, ...]
    labels: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()


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


# ---- both ways: a worker asks control (index, statistics, load, feedback), control asks for a fresh report ------------


@dataclass(frozen=True, slots=True)
class Report:
    """Control wants `Observed`, `Telemetry` and the waiting predictions now; the worker answers with `Reported`."""

    token: int


@dataclass(frozen=True, slots=True)
class Reported:
    """Everything asked for by `Report` with this token has been sent before this message."""

    token: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker passes on what only control can answer. ``body`` is the request's protobuf bytes, as the client sent them."""

    token: int
    method: str
    body: bytes


LOAD_VERSION = "LoadVersion"  # the method of an `Ask` that carries a `Wish`


@dataclass(frozen=True, slots=True)
class Wish:
    """
    A caller's version (number or alias) that this worker does not hold. Encoded as msgpack in an `Ask`; the body of the
    answer is the version's number as text, and the version itself comes by the desired state.
    """

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Control's answer to the `Ask` with this token: protobuf bytes, or an error (``code`` a gRPC code name other than
    OK, with reason, message and metadata).
    """

    token: int
    body: bytes = b""
    code: str = "OK"
    reason: str = ""
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
