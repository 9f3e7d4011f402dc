"""How far the workers have come with a change, decided from their reports. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.contract.counts import Telemetry
from gateway.contract.handshake import Hello
from gateway.contract.observed import Observed, ObservedVersion

_GONE = ("UNLOADED", "FAILED")
STOPS_THAT_CONDEMN = 2  # a worker may be killed once by chance while it prepares; after twice the version is to blame


@dataclass(frozen=True, slots=True)
class WorkerView:
    """An attached worker by its last reports. ``has_served``: it has taken requests at some time."""

    hello: Hello
    observed: Observed | None = None
    telemetry: Telemetry | None = None
    has_served: bool = False  # it has taken requests
    held: Mapping[tuple[str, int], ObservedVersion] = field(init=False, compare=False, repr=False)  # `observed`, for look-ups

    def __post_init__(self) -> None:
        versions = self.observed.versions if self.observed else ()
        object.__setattr__(self, "held", {(version.model, version.number): version for version in versions})

    @property
    def is_serving(self) -> bool:
        """Whether it takes requests."""
        return self.observed is not None and self.observed.is_serving

    def version(self, model: str, number: int) -> ObservedVersion | None:
        """Returns its report on one version."""
        return self.held.get((model, number))


@dataclass(frozen=True, slots=True)
class FleetView:
    """
    All workers at one moment. ``attached`` is by worker number. ``departures`` and ``restarts`` count per worker since
    control started. ``expected`` is the number of workers that should be attached. ``beside`` are second processes of
    attached workers during a replacement: the one that starts, or the one that ends.
    """

    attached: Mapping[int, WorkerView] = field(default_factory=dict)
    departures: Mapping[int, int] = field(default_factory=dict)
    restarts: Mapping[int, int] = field(default_factory=dict)
    expected: int = 0
    beside: tuple[WorkerView, ...] = ()

    def lives(self) -> tuple[WorkerView, ...]:
        """Returns every attached process."""
        return (*self.attached.values(), *self.beside)

    def away(self) -> tuple[int, ...]:
        """Returns the numbers of workers that should be attached and are not."""
        gone = [worker for worker in sorted(self.departures) if worker not in self.attached]
        never = [n for n in range(self.expected) if n not in self.attached and n not in gone]
        return tuple([*gone, *never][: max(0, self.expected - len(self.attached))])


def fleet_view(
    lives: Sequence[WorkerView], departures: Mapping[int, int], restarts: Mapping[int, int], expected: int
) -> FleetView:
    """
    Returns the view of these ``lives``, in the order in which they attached. Of several with one number, the newest that
    serves is the worker.
    """
    newest = {}
    for place, life in sorted(enumerate(lives), key=lambda at: (at[1].is_serving, at[0])):
        newest[life.hello.worker] = place
    attached = {number: lives[place] for number, place in sorted(newest.items())}
    beside = tuple(life for place, life in enumerate(lives) if place not in newest.values())
    return FleetView(attached, departures, restarts, expected, beside)


@dataclass(frozen=True, slots=True)
class Preparation:
    """
    Versions that must become READY in every worker. ``revision`` is the first desired state that has all of them, ``start``
    the fleet at that moment.
    """

    model: str
    versions: frozenset[int]
    revision: int
    start: FleetView


@dataclass(frozen=True, slots=True)
class Progress:
    """
    The progress of a preparation: done, or failed for good with ``failure`` as the reason, or ``waiting`` for what it lists.
    """

    is_done: bool = False
    failure: str = ""
    waiting: tuple[str, ...] = ()


def prepared(view: FleetView, goal: Preparation) -> Progress:
    """
    Whether every worker has every version READY: all processes that are attached now, and all workers that were attached at
    the start.

    A worker that left has to come back and have them READY, because the version itself may have stopped it. After it has
    left twice, the version is to blame and the preparation fails.
    """
    waiting: list[str] = []
    for worker in sorted({*goal.start.attached, *view.attached}):
        left = view.departures.get(worker, 0) - goal.start.departures.get(worker, 0)
        if left >= STOPS_THAT_CONDEMN:
            return Progress(failure=f"worker {worker} stopped {left} times while it prepared {_names(goal)}")
        waiting += _lacks(view.attached.get(worker), worker, goal)
    for life in view.beside:
        waiting += _lacks(life, life.hello.worker, goal)
    failures = [text for text in waiting if text.startswith("!")]
    if failures:
        return Progress(failure="; ".join(text[1:] for text in failures))
    return Progress(is_done=not waiting and bool(view.attached), waiting=tuple(waiting))


def failed_versions(view: FleetView, model: str, numbers: frozenset[int]) -> frozenset[int]:
    """Returns those of the versions that an attached process failed to load."""
    found = ((number, life.version(model, number)) for life in view.lives() for number in numbers)
    return frozenset(number for number, version in found if version is not None and version.state == "FAILED")


def not_unloaded(view: FleetView, revision: int, model: str, numbers: frozenset[int]) -> tuple[str, ...]:
    """Returns a text for each of these versions that an attached worker has not freed since the desired state ``revision``."""
    found = []
    for number, worker in sorted(view.attached.items()):
        if worker.observed is None or worker.observed.revision < revision:
            found.append(f"worker {number} has not taken the request")
            continue
        versions = [(one, worker.version(model, one)) for one in sorted(numbers)]
        found += [f"worker {number}: v{one} is {v.state}" for one, v in versions if v is not None and v.state not in _GONE]
    return tuple(found)


def _lacks(worker: WorkerView | None, number: int, goal: Preparation) -> list[str]:
    """Returns what a worker still lacks; failures begin with "!"."""
    if worker is None:
        return [f"worker {number} is away"]
    if worker.observed is None or worker.observed.revision < goal.revision:
        return [f"worker {number} has not taken the request"]
    found = []
    for wanted in sorted(goal.versions):
        version = worker.version(goal.model, wanted)
        if version is not None and version.state == "FAILED":
            found.append(f"!worker {number} could not load {goal.model} v{wanted}: {version.reason}")
        elif version is None or version.state != "READY":
            found.append(f"worker {number}: {goal.model} v{wanted} is {version.state if version else 'not there'}")
    return found


def _names(goal: Preparation) -> str:
    return f"{goal.model} {', '.join(f'v{number}' for number in sorted(goal.versions))}"


@dataclass(frozen=True, slots=True)
class Commitment:
    """
    A route that must be in force. ``deployed`` is the deployment's revision (None: no route any more), ``revision`` the
    desired state that brought it, ``lives`` are worker number and incarnation of those attached when it was sent.
    """

    model: str
    deployed: int | None
    revision: int
    lives: frozenset[tuple[int, str]]

    @property
    def workers(self) -> frozenset[int]:
        """Returns the numbers of the workers."""
        return frozenset(number for number, _ in self.lives)


def unacknowledged(view: FleetView, goal: Commitment) -> tuple[int, ...]:
    """Returns the workers of the commitment that are still attached and have not put it in force."""
    late = (life for life in view.lives() if _is_of(life, goal) and not _is_in_force(life.observed, goal))
    return tuple(sorted({life.hello.worker for life in late}))


def _is_of(life: WorkerView, goal: Commitment) -> bool:
    return (life.hello.worker, life.hello.incarnation) in goal.lives


def _is_in_force(observed: Observed | None, goal: Commitment) -> bool:
    if observed is None or observed.revision < goal.revision:
        return False
    return observed.routes.get(goal.model) == goal.deployed


def missing(view: FleetView, goal: Commitment) -> tuple[str, ...]:
    """Returns texts for the operator about workers that have not acknowledged: late ones, and those that left or were away."""
    late = unacknowledged(view, goal)
    texts = [f"worker {number} has not put it in force yet" for number in late]
    for number in sorted({*goal.workers, *view.away()}):
        worker = view.attached.get(number)
        if worker is None or _is_behind(worker, goal):
            texts.append(f"worker {number} is restarting and will catch up")
    return tuple(texts)


def _is_behind(worker: WorkerView, goal: Commitment) -> bool:
    """Whether this is another process of the worker, and one that has not put the route in force."""
    return not _is_of(worker, goal) and not _is_in_force(worker.observed, goal)
