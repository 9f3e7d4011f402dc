"""
Requests that wait in a worker for the version that they name to be loaded.

A request whose version is not held is parked; control is asked for the version once, however many requests wait for it, and
now and then again, until the version is in the table (`due` then hands the requests out), or control says that there is no
hope, or nobody waits any more. All but the asking is done by the lane's thread, which looks here between two takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from gateway.api.status_codes import Refusal, describe, describe_answer
from gateway.clock import Clock
from gateway.contract.asks import LOAD_VERSION, Answer, Wish
from gateway.errors import CallerGone, DeadlinePassed, GatewayError, NotReady, Overloaded
from gateway.serving.item import Item
from gateway.serving.lane.call import Call, Lane, OnGone
from gateway.serving.table import ServingTable

MAX_PARKED = 256
MAX_PARKED_BYTES = 256 * 1024**2
MAX_REFUSED = 1024
LOOK_S, IDLE_S = 0.005, 0.2  # the lane's longest wait while requests are parked, and else
REPEAT_S = 0.25  # between two wishes for the same version
ASK_TIMEOUT_S = 5.0
ASK_THREADS = 2
REFUSED_S = 0.5  # for so long what control refused is refused without asking again
Key = tuple[str, str]  # model and version as callers name them
Ask = Callable[[str, bytes, float], Answer]
Fail = Callable[[Call, Refusal], None]


@dataclass(slots=True, eq=False)
class Parked:
    """
    One request. The lane may watch a call only once, so whoever watches it after it was handed out is told by way of here.
    """

    call: Call
    expires_at: float
    then: OnGone | None = None

    def gone(self, call: Call) -> None:
        """Nobody waits any more. Nothing to do while it is parked: `due` sees that by itself."""
        if self.then is not None:
            self.then(call)

    def hand_over(self, on_gone: OnGone) -> None:
        """From now on this is told."""
        self.then = on_gone
        if self.call.is_gone:
            on_gone(self.call)


@dataclass(slots=True, eq=False)
class _Queue:
    """The requests for one version. ``refusal`` is set by the thread that asked."""

    parked: list[Parked] = field(default_factory=list)
    is_asking: bool = False
    asked_at: float = float("-inf")
    refusal: Refusal | None = None


class OnDemand:
    """See the module. ``ask`` is `Worker.ask`, ``fail`` ends a call with an error."""

    def __init__(self, lane: Lane, ask: Ask, fail: Fail, clock: Clock) -> None:
        self._lane, self._ask, self._fail, self._clock = lane, ask, fail, clock
        self._queues: dict[Key, _Queue] = {}
        self._refused: dict[Key, tuple[Refusal, float]] = {}
        self._pool = ThreadPoolExecutor(ASK_THREADS, thread_name_prefix="wish")
        self.parked = 0
        self._bytes = 0

    @property
    def patience_s(self) -> float:
        """How long the lane may wait for calls before `due` should be called again."""
        return LOOK_S if self.parked else IDLE_S

    def park(self, item: Item) -> None:
        """
        Keeps a routed-to-nobody request that names a version. What control has just refused is refused at once. Raises
        Overloaded when too much is parked.
        """
        call, layout = item.call, item.layout
        key = layout.model, layout.version
        refused = self._refused.get(key)
        if refused is not None and refused[1] > self._clock.monotonic():
            self._fail(call, refused[0])
            return
        if self.parked >= MAX_PARKED or self._bytes + len(call.message) > MAX_PARKED_BYTES:
            raise Overloaded(f"{self.parked} requests wait for versions to be loaded already", retry_after_s=1.0)
        parked = getattr(call, "owner", None)  # it was handed out, and the version went again
        if not isinstance(parked, Parked):
            call.owner = parked = Parked(call, _expires_at(item, self._clock.now()))
            self._lane.watch([call], parked.gone)
        parked.then = None
        self._queues.setdefault(key, _Queue()).parked.append(parked)
        self._count(parked, 1)

    def watch(self, calls: Sequence[Call], on_gone: OnGone) -> None:
        """As `Lane.watch`, for calls of which some may have been parked."""
        unwatched = []
        for call in calls:
            parked = getattr(call, "owner", None)
            if isinstance(parked, Parked):
                parked.hand_over(on_gone)
            else:
                unwatched.append(call)
        if unwatched:
            self._lane.watch(unwatched, on_gone)

    def due(self, table: ServingTable) -> list[Call]:
        """The calls whose version can be leased now; they are parked no longer. Ends those that wait for nothing."""
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
                    self._pool.submit(self._wish, key, queue)
        return found

    def close(self) -> None:
        """Ends what is still parked, and the asking."""
        stopping = describe(NotReady("the worker is stopping: try again"))
        for key in list(self._queues):
            for parked in self._emptied(key):
                self._fail(parked.call, stopping)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _wish(self, key: Key, queue: _Queue) -> None:
        """In a thread of the pool: asks control."""
        try:
            answer = self._ask(LOAD_VERSION, msgspec.msgpack.encode(Wish(*key)), ASK_TIMEOUT_S)
            if answer.code != "OK":
                queue.refusal = describe_answer(answer)
        except GatewayError as error:  # control is away
            queue.refusal = describe(error)
        queue.asked_at = self._clock.monotonic()
        queue.is_asking = False

    def _refuse(self, key: Key, refusal: Refusal) -> None:
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[key] = refusal, self._clock.monotonic() + REFUSED_S
        for parked in self._emptied(key):
            self._fail(parked.call, refusal)

    def _drop_dead(self, queue: _Queue) -> None:
        now = self._clock.now()
        dead = [parked for parked in queue.parked if parked.call.is_gone or parked.expires_at <= now]
        for parked in dead:
            queue.parked.remove(parked)
            self._count(parked, -1)
            late = DeadlinePassed("the deadline passed while the version was being loaded")
            self._fail(parked.call, describe(CallerGone("nobody waits any more") if parked.call.is_gone else late))

    def _emptied(self, key: Key) -> list[Parked]:
        parked = self._queues.pop(key).parked
        for one in parked:
            self._count(one, -1)
        return parked

    def _count(self, parked: Parked, sign: int) -> None:
        self.parked += sign
        self._bytes += sign * len(parked.call.message)


def _expires_at(item: Item, now: float) -> float:
    timeout_us = item.parameters.timeout_us
    return min(item.call.deadline, now + timeout_us / 1e6) if timeout_us else item.call.deadline
