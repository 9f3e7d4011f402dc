"""
Parking: requests wait in this worker until the version that they name has been loaded.

A request whose version is not loaded is parked. Control is asked for the version once, however many requests wait for
it, and again now and then, until the version is in the routing table (`due` then hands the requests out), control refuses
it, or no request waits any more. The lane's thread does all but the asking, between two takes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.errors import CallerGone, DeadlinePassed, GatewayError, NotReady, Overloaded
from gateway.serving.lane.call import Call, Lane
from gateway.serving.refusals import Refusals
from gateway.serving.stages import Received
from gateway.serving.table import RoutingTable
from registry.names import version_number

MAX_PARKED = 256  # requests
MAX_PARKED_BYTES = 256 * 1024**2  # bytes of their messages
MAX_REFUSED = 1024  # versions whose refusal is remembered; at the bound all are forgotten
POLL_S, IDLE_POLL_S = 0.005, 0.2  # seconds, the lane's longest wait while requests are parked, and otherwise
REPEAT_S = 0.25  # seconds between two questions for the same version
ASK_TIMEOUT_S = 5.0  # seconds that control has for an answer
ASK_THREADS = 2
REFUSED_S = 0.5  # seconds for which a version that control refused is refused without asking again
Key = tuple[str, str]  # model, and version as a number or an alias
Ask = Callable[[str, str, float], None]  # (model, version, timeout in seconds); raises what control refuses


@dataclass(frozen=True, slots=True, eq=False)
class _Parked:
    """One parked call. ``expires_at`` (monotonic seconds) is when its caller stops waiting."""

    call: Call
    expires_at: float


@dataclass(slots=True, eq=False)
class _Queue:
    """The calls parked for one version. The thread that asks sets ``refusal``."""

    parked: list[_Parked] = field(default_factory=list)
    is_asking: bool = False
    asked_at: float = float("-inf")
    refusal: GatewayError | None = None


class Parking:
    """``ask(model, version, timeout_s)`` has control load a version, and raises if control refuses or is away."""

    def __init__(self, lane: Lane, ask: Ask, refusals: Refusals, clock: Clock) -> None:
        self._lane, self._ask, self._refusals, self._clock = lane, ask, refusals, clock
        self._queues: dict[Key, _Queue] = {}
        self._refused: dict[Key, tuple[GatewayError, float]] = {}
        self._pool = ThreadPoolExecutor(ASK_THREADS, thread_name_prefix="load-version")
        self.parked = 0
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<parking with {self.parked} requests for {len(self._queues)} versions>"

    @property
    def poll_s(self) -> float:
        """Seconds that the lane may wait for calls before `due` should be called again."""
        return POLL_S if self.parked else IDLE_POLL_S

    def park(self, request: Received) -> None:
        """
        Parks a request that names a version which is not loaded. Refuses it if control refused the version a moment ago.
        Raises Overloaded when too much is parked.
        """
        key = request.signature.model, _canonical(request.signature.version)
        refused = self._refused.get(key)
        if refused is not None and refused[1] > self._clock.monotonic():
            self._refusals.refuse_unrouted(request.call, refused[0])  # not raised: it would keep every traceback
            return
        call = request.call
        if self.parked >= MAX_PARKED or self._bytes + len(call.message) > MAX_PARKED_BYTES:
            raise Overloaded(f"{self.parked} requests wait for versions to be loaded already", retry_after_s=1.0)
        parked = _Parked(call, _expires_at(request, self._clock.monotonic()))
        self._lane.watch([call], _ignore)  # `due` sees by itself that a caller is gone
        self._queues.setdefault(key, _Queue()).parked.append(parked)
        self._count(parked, 1)

    def due(self, table: RoutingTable) -> list[Call]:
        """Returns the calls whose version can be leased now, and ends those that no longer wait."""
        found: list[Call] = []
        for key, queue in list(self._queues.items()):
            if table.has(*key):
                found += [parked.call for parked in self._emptied(key)]
            elif queue.refusal is not None:
                self._refuse(key, queue.refusal)
            else:
                self._drop_dead(queue)
                if not queue.parked:
                    del self._queues[key]
                elif not queue.is_asking and self._clock.monotonic() - queue.asked_at >= REPEAT_S:
                    queue.is_asking = True
                    self._pool.submit(self._ask_control, key, queue)
        return found

    def close(self) -> None:
        """Ends what is still parked, and the asking."""
        stopping = NotReady("the worker is stopping: try again")
        for key in list(self._queues):
            for parked in self._emptied(key):
                self._refusals.refuse_unrouted(parked.call, stopping)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask_control(self, key: Key, queue: _Queue) -> None:
        try:
            self._ask(*key, ASK_TIMEOUT_S)
        except GatewayError as error:  # control refuses, or is away
            queue.refusal = error
        queue.asked_at = self._clock.monotonic()
        queue.is_asking = False

    def _refuse(self, key: Key, refusal: GatewayError) -> None:
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[key] = refusal, self._clock.monotonic() + REFUSED_S
        for parked in self._emptied(key):
            self._refusals.refuse_unrouted(parked.call, refusal)

    def _drop_dead(self, queue: _Queue) -> None:
        now = self._clock.monotonic()
        dead = [parked for parked in queue.parked if parked.call.is_gone or parked.expires_at <= now]
        for parked in dead:
            queue.parked.remove(parked)
            self._count(parked, -1)
            late = DeadlinePassed("the deadline passed while the version was being loaded")
            gone = CallerGone("the caller is gone; nothing waits for the version")
            self._refusals.refuse_unrouted(parked.call, gone if parked.call.is_gone else late)

    def _emptied(self, key: Key) -> list[_Parked]:
        parked = self._queues.pop(key).parked
        for one in parked:
            self._count(one, -1)
        return parked

    def _count(self, parked: _Parked, sign: int) -> None:
        self.parked += sign
        self._bytes += sign * len(parked.call.message)


def _canonical(version: str) -> str:
    """Returns "7" for "007"; what may be an alias as it is."""
    number = version_number(version) if version.isdigit() else None
    return version if number is None else str(number)


def _expires_at(request: Received, now: float) -> float:
    timeout_us = request.parameters.timeout_us
    return min(request.call.deadline, now + timeout_us / 1e6) if timeout_us else request.call.deadline


def _ignore(call: Call) -> None:
    """The call knows by itself that its caller is gone."""
