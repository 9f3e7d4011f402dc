"""
The deployment of one model, and the pure rules that change it.

A deployment is a value; every change makes a new one with the next revision (`Registry.commit` stores it by
compare-and-set). Traffic is a line of 10,000 parts: each candidate has segments of it, the default has the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from registry.errors import InvalidValue, RuleForbids

PARTS = 10_000  # weights are whole parts of this: 1 part is 0.01 %
DEFAULT_ROLLBACK_WINDOW_S = 3600.0
MAX_PREFERRED = 32
SWAP_ORDERS = ("availability", "memory")
ISOLATIONS = ("none", "process")
_BATCHING_RANGES = (
    ("max_rows", 1, 65_536),
    ("queue_delay_us", 0, 1_000_000),
    ("max_waiting", 1, 1_000_000),
    ("queue_target_us", 0, 60_000_000),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """Sends units u with ``start <= u * PARTS < end`` to ``version``. Segments are sorted and do not overlap."""

    start: int
    end: int
    version: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """Sends copies of ``percent`` (0 to 100) of the default's and the candidates' requests to ``version``."""

    version: int
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Batching:
    """
    How requests of one version wait and run together.

    ``mode``: ``auto`` (on where rows were shown to be independent), ``on`` or ``off``. ``max_rows`` bounds a batch in
    rows (1 = no batching). ``queue_delay_us`` is how long a batch may wait to fill, 0 = run what is there.
    ``preferred_rows`` are batch sizes that the model runs best at, ascending: while more waits than the largest of them
    that can be filled, a batch ends there; a batch that waits to fill runs as soon as it has one of them. Empty: none.
    ``max_waiting`` bounds the queue in requests. ``queue_target_us`` is the queue delay that may stand for long before
    requests are refused (CoDel's target; at least one run of a full batch is always allowed), 0 = no such bound.
    ``has_adaptive_limit`` bounds the requests in the queue and running by what latency shows the model can take.
    """

    mode: str = "auto"
    max_rows: int = 64
    queue_delay_us: int = 0
    preferred_rows: tuple[int, ...] = ()
    max_waiting: int = 1024
    queue_target_us: int = 5000
    has_adaptive_limit: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """
    What should be served for ``model``.

    ``revision`` counts from 1. ``default`` is None when nothing is deployed. ``salt`` keys the assignment of units.
    ``predecessor`` is the revision that `rollback` restores (the one before the last change of who answers callers).
    ``rollback_window_s`` is how long the predecessor's versions stay warm, 0 = not at all. ``swap_order``:
    ``availability`` loads a new version beside the old one; ``memory`` frees the old one first, which keeps one copy in
    memory at a time and answers UNAVAILABLE meanwhile. ``isolation``: ``process`` runs the versions in child processes of
    their own, ``none`` only those that have ended a worker. ``action`` is the verb that made the revision, ``created_at``
    Unix time in seconds.
    """

    model: str
    revision: int
    default: int | None
    segments: tuple[Segment, ...] = ()
    salt: str = ""
    shadow: Shadow | None = None
    batching: Batching = Batching()
    rollback_window_s: float = DEFAULT_ROLLBACK_WINDOW_S
    swap_order: str = "availability"
    isolation: str = "none"
    predecessor: int | None = None
    action: str = "deploy"
    author: str = ""
    reason: str = ""
    created_at: float = 0.0

    @property
    def etag(self) -> str:
        """The value with which writers name the revision that they have seen."""
        return f'"{self.revision}"'

    def weights(self) -> dict[int, int]:
        """Returns parts of PARTS per version, including the default's (also if it is 0)."""
        parts: dict[int, int] = {} if self.default is None else {self.default: PARTS}
        for segment in self.segments:
            width = segment.end - segment.start
            parts[segment.version] = parts.get(segment.version, 0) + width
            if self.default is not None:
                parts[self.default] -= width
        return parts

    def named_versions(self) -> frozenset[int]:
        """Returns every version that the deployment names, including the shadow."""
        return self.routed_versions() | ({self.shadow.version} if self.shadow else frozenset())

    def routed_versions(self) -> frozenset[int]:
        """Returns every version that may answer callers."""
        return frozenset(self.weights())


def deployed(model: str, version: int, *, current: Deployment | None, salt: str) -> Deployment:
    """Returns a new deployment of one version: no candidates, no shadow, default settings."""
    return Deployment(
        model=model,
        revision=1 if current is None else current.revision + 1,
        default=version,
        salt=salt,
        predecessor=_predecessor(current),
        action="deploy",
    )


def promoted(current: Deployment, version: int) -> Deployment:
    """Returns a deployment that sends all callers to ``version``. Candidates end, and so does a shadow of that version."""
    shadow = current.shadow if current.shadow and current.shadow.version != version else None
    return replace(_next(current, "promote"), default=version, segments=(), shadow=shadow, predecessor=current.revision)


def undeployed(current: Deployment) -> Deployment:
    """Returns a deployment that serves nothing. History and versions stay."""
    return replace(_next(current, "undeploy"), default=None, segments=(), shadow=None, predecessor=_predecessor(current))


def split(current: Deployment, parts: Mapping[int, int], *, salt: str) -> Deployment:
    """
    Traffic by weight: ``parts`` maps versions to parts of PARTS and sums to PARTS; the default keeps what is its own.

    Units move only from a version that shrinks to one that grows. A split that starts from none takes ``salt``, so that
    every experiment assigns anew; a change of weights keeps the salt.
    Raises InvalidValue for weights out of range or with another sum.
    """
    default = _served(current, "split")
    if any(weight < 0 for weight in parts.values()) or sum(parts.values()) != PARTS:
        got = ", ".join(f"{version}={weight / PARTS:.2%}" for version, weight in parts.items())
        raise InvalidValue(f"weights: must be 0 or more and sum to 100 %, got {got}", field="weights")
    wanted = {version: weight for version, weight in parts.items() if version != default and weight}
    return replace(
        _next(current, "split"),
        segments=resplit(current.segments, wanted),
        salt=current.salt if current.segments else salt,
        predecessor=current.revision,
    )


def resplit(segments: tuple[Segment, ...], wanted: Mapping[int, int]) -> tuple[Segment, ...]:
    """
    Segments with the wanted parts per candidate that move as few units as possible; growth takes the lowest free parts.

    What no segment owns is the default's: it too gives parts away only as far as it shrinks, its lowest first.
    """
    kept: list[Segment] = []
    owned: dict[int, int] = dict.fromkeys(wanted, 0)
    for segment in segments:
        width = min(segment.end - segment.start, wanted.get(segment.version, 0) - owned.get(segment.version, 0))
        if width > 0:
            kept.append(Segment(segment.start, segment.start + width, segment.version))
            owned[segment.version] += width
    defaults = _highest(_gaps(segments), PARTS - sum(wanted.values()))
    for version, weight in wanted.items():
        free = _gaps(sorted([*kept, *defaults], key=lambda s: s.start))
        kept += _claim(free, version, weight - owned[version])
    return _merged(sorted(kept, key=lambda s: s.start))


def _gaps(taken: Sequence[Segment]) -> list[Segment]:
    """Returns the parts between the segments, as segments of version 0."""
    starts = [0, *(segment.end for segment in taken)]
    ends = [*(segment.start for segment in taken), PARTS]
    return [Segment(start, end, 0) for start, end in zip(starts, ends, strict=True) if start < end]


def _claim(free: Iterable[Segment], version: int, parts: int) -> list[Segment]:
    claimed = []
    for gap in free:
        width = min(gap.end - gap.start, parts)
        if width > 0:
            claimed.append(Segment(gap.start, gap.start + width, version))
            parts -= width
    return claimed


def _highest(gaps: Sequence[Segment], parts: int) -> list[Segment]:
    kept = []
    for gap in reversed(gaps):
        width = min(gap.end - gap.start, parts)
        if width > 0:
            kept.append(Segment(gap.end - width, gap.end, gap.version))
            parts -= width
    return kept


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    merged: list[Segment] = []
    for segment in segments:
        last = merged[-1] if merged else None
        if last and last.version == segment.version and last.end == segment.start:
            merged[-1] = replace(last, end=segment.end)
        else:
            merged.append(segment)
    return tuple(merged)


def shadowed(current: Deployment, shadow: Shadow | None) -> Deployment:
    """
    Returns the deployment with another shadow, or none. Raises InvalidValue for a percentage out of range or the default as
    its own shadow.
    """
    default = _served(current, "shadow")
    if shadow and not 0 <= shadow.percent <= 100:
        raise InvalidValue(f"percent: must be from 0 to 100, got {shadow.percent:g}", field="percent")
    if shadow and shadow.version == default:
        raise InvalidValue(f"version: {shadow.version} is the default and cannot shadow itself", field="version")
    return replace(_next(current, "shadow"), shadow=shadow)


def configured(
    current: Deployment,
    *,
    batching: Batching,
    rollback_window_s: float,
    swap_order: str | None = None,
    isolation: str | None = None,
) -> Deployment:
    """
    Returns the deployment with other settings; None keeps ``swap_order`` and ``isolation``. Raises InvalidValue that names
    the setting.
    """
    _check_batching(batching)
    if not 0 <= rollback_window_s <= 30 * 86_400:
        raise InvalidValue(f"rollback_window_s: expected 0 to 2592000, got {rollback_window_s:g}", field="rollback_window_s")
    order = _chosen("swap_order", SWAP_ORDERS, swap_order, current.swap_order)
    isolation = _chosen("isolation", ISOLATIONS, isolation, current.isolation)
    made = _next(current, "configure")
    return replace(made, batching=batching, rollback_window_s=rollback_window_s, swap_order=order, isolation=isolation)


def _chosen(setting: str, known: tuple[str, ...], value: str | None, present: str) -> str:
    if value is not None and value not in known:
        raise InvalidValue(f"{setting}: expected {' or '.join(known)}, got {value!r}", field=setting)
    return present if value is None else value


def _check_batching(batching: Batching) -> None:
    if batching.mode not in ("auto", "on", "off"):
        raise InvalidValue(f"batching.mode: expected auto, on or off, got {batching.mode!r}", field="batching.mode")
    for name, least, most in _BATCHING_RANGES:
        value = getattr(batching, name)
        if not least <= value <= most:
            raise InvalidValue(f"batching.{name}: expected {least} to {most}, got {value}", field=f"batching.{name}")
    rows = batching.preferred_rows
    is_ascending = all(smaller < larger for smaller, larger in pairwise(rows))
    if len(rows) > MAX_PREFERRED or not is_ascending or not all(1 <= size <= batching.max_rows for size in rows):
        raise InvalidValue(
            f"batching.preferred_rows: expected at most {MAX_PREFERRED} sizes from 1 to max_rows ({batching.max_rows}), "
            f"ascending, got {', '.join(map(str, rows))}",
            field="batching.preferred_rows",
        )


def rolled_back(current: Deployment, earlier: Deployment) -> Deployment:
    """Returns the whole earlier deployment as a new revision. The next rollback goes further back, never forth."""
    return replace(
        earlier,
        revision=current.revision + 1,
        predecessor=earlier.predecessor,
        action=f"rollback to {earlier.revision}",
    )


def check_deployment(deployment: Deployment) -> None:
    """Raises InvalidValue when segments are out of order, overlap or leave the line, or the predecessor is none."""
    end = 0
    for segment in deployment.segments:
        if not end <= segment.start < segment.end <= PARTS:
            raise InvalidValue(f"segments: {segment} is empty, overlaps or leaves 0 to {PARTS}", field="segments")
        end = segment.end
    if deployment.default is None and (deployment.segments or deployment.shadow):
        raise InvalidValue("default: candidates and a shadow need a default version", field="default")
    if any(segment.version == deployment.default for segment in deployment.segments):
        raise InvalidValue("segments: the default owns what no segment does, and has none itself", field="segments")
    if deployment.predecessor is not None and not 1 <= deployment.predecessor < deployment.revision:
        raise InvalidValue(f"predecessor: {deployment.predecessor} is not an earlier revision", field="predecessor")


def _next(current: Deployment, action: str) -> Deployment:
    return replace(current, revision=current.revision + 1, action=action, author="", reason="")


def _predecessor(current: Deployment | None) -> int | None:
    return current.revision if current is not None and current.default is not None else None


def _served(current: Deployment, action: str) -> int:
    if current.default is None:
        raise RuleForbids(f"{current.model} is not deployed: deploy a version before {action}", rule="deployed")
    return current.default
