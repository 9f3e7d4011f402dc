"""How far the workers have come with what is asked of them, decided from what they said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.fleet import Hello, Observed, ObservedVersion, Telemetry

STOPS_THAT_CONDEMN = 2  # a worker may be killed once by chance while it prepares; twice is the version's doing


@dataclass(frozen=True, slots=True)
class WorkerView:
    """An attached worker as it last described itself."""

    hello: Hello
    observed: Observed | None = None
    telemetry: Telemetry | None = None
    has_served: bool = False  # it took requests at some time
    held: Mapping[tuple[str, int], ObservedVersion] = field(init=False, compare=False, repr=False)  # `observed`, for look-ups

    def __post_init__(self) -> None:
        versions = self.observed.versions if self.observed else ()
        object.__setattr__(self, "held", {(version.model, version.number): version for version in versions})

    def version(self, model: str, number: int) -> ObservedVersion | None:
        """What it says of one version."""
        return self.held.get((model, number))


@dataclass(frozen=True, slots=True)
class FleetView:
    """
    All workers at one moment. ``attached`` is by worker number, ``departures`` and ``restarts`` count per worker since
    control started, ``expected`` is how many there should be.
    """

    attached: Mapping[int, WorkerView] = field(default_factory=dict)
    departures: Mapping[int, int] = field(default_factory=dict)
    restarts: Mapping[int, int] = field(default_factory=dict)
    expected: int = 0

    def away(self) -> tuple[int, ...]:
        """Numbers of the workers that should be attached and are not."""
        gone = [worker for worker in sorted(self.departures) if worker not in self.attached]
        never = [n for n in range(self.expected) if n not in self.attached and n not in gone]
        return tuple([*gone, *never][: max(0, self.expected - len(self.attached))])


@dataclass(frozen=True, slots=True)
class Preparation:
    """
    Versions that must become READY in every worker. ``revision`` is the desired state that first asked for all of them,
    ``start`` the fleet at that moment.
    """

    model: str
    versions: frozenset[int]
    revision: int
    start: FleetView


@dataclass(frozen=True, slots=True)
class Stand:
    """How a preparation stands: done, or ``failure`` says why it never will be, or ``waiting`` what is missing."""

    is_done: bool = False
    failure: str = ""
    waiting: tuple[str, ...] = ()


def prepared(view: FleetView, goal: Preparation) -> Stand:
    """
    Whether every worker holds every version READY: the workers attached now and those that were when it began.

    One that left has to come back and be READY too, since the version itself may have brought it down; one that left
    twice has shown it.
    """
    waiting: list[str] = []
    for worker in sorted({*goal.start.attached, *view.attached}):
        left = view.departures.get(worker, 0) - goal.start.departures.get(worker, 0)
        if left >= STOPS_THAT_CONDEMN:
            return Stand(failure=f"worker {worker} stopped {left} times while it prepared {_names(goal)}")
        waiting += _lacks(view.attached.get(worker), worker, goal)
    failures = [text for text in waiting if text.startswith("!")]
    if failures:
        return Stand(failure="; ".join(text[1:] for text in failures))
    return Stand(is_done=not waiting and bool(view.attached), waiting=tuple(waiting))


def _lacks(worker: WorkerView | None, number: int, goal: Preparation) -> list[str]:
    """What a worker still lacks; failures begin with "!"."""
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
    A route that must be in force: ``deployed`` is the deployment's revision (None: no route any more), ``revision`` the
    desired state that brought it, ``workers`` those attached when it was sent, by their incarnation.
    """

    model: str
    deployed: int | None
    revision: int
    workers: Mapping[int, str]


def unacknowledged(view: FleetView, goal: Commitment) -> tuple[int, ...]:
    """Workers of the commitment that are still attached and have not put it in force yet."""
    return tuple(
        number
        for number, incarnation in sorted(goal.workers.items())
        if number in view.attached
        and view.attached[number].hello.incarnation == incarnation
        and not _is_in_force(view.attached[number].observed, goal)
    )


def _is_in_force(observed: Observed | None, goal: Commitment) -> bool:
    if observed is None or observed.revision < goal.revision:
        return False
    return observed.routes.get(goal.model) == goal.deployed


def missing(view: FleetView, goal: Commitment) -> tuple[str, ...]:
    """What to tell the operator about workers that have not acknowledged: late, gone, or away all along."""
    late = unacknowledged(view, goal)
    texts = [f"worker {number} has not put it in force yet" for number in late]
    for number in sorted({*goal.workers, *view.away()}):
        worker = view.attached.get(number)
        if worker is None or _is_behind(worker, goal):
            texts.append(f"worker {number} is restarting and will catch up")
    return tuple(texts)


def _is_behind(worker: WorkerView, goal: Commitment) -> bool:
    """Whether this is another life of the worker, and one that has not put the route in force yet."""
    is_same = goal.workers.get(worker.hello.worker) == worker.hello.incarnation
    return not is_same and not _is_in_force(worker.observed, goal)
