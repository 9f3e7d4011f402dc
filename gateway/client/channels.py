"""
The connections of a `Client`: a fixed number that take turns, or ("auto") one to every worker, found in the background.

The first call goes out on the first connection at once. Others join when they are known to reach a worker that none of the
rest reaches. A connection that is given up ends when its calls have. `gateway.client.spread` decides which to keep.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.client.call_errors import CallError
from gateway.client.grpc_channel import Channel
from gateway.client.spread import WorkerPosition, repeated, tries, wanted

AUTO_AFTER = 3  # calls: who asks once or twice, as a command does, needs one connection
LOOK_EVERY_S = 30.0  # connections are made anew when workers are replaced or the connection has its age
DOUBT_S = 1.0  # seconds between two checks at least, however many calls fail
PROBE_TIMEOUT_S = 2.0


class _Seat:
    """A connection with the number of its calls."""

    __slots__ = ("calls", "channel")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.calls = 0


class Channels:
    """
    Keeps connections made by ``connect``. With a ``count`` so many take turns; with None there is one to every worker.
    Thread-safe.
    """

    def __init__(self, connect: Callable[[], Channel], count: int | None) -> None:
        self._connect, self._is_auto = connect, count is None
        self._seats = tuple(_Seat(connect()) for _ in range(count or 1))
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._leaving: set[_Seat] = set()  # given up, with calls still on them
        self._doubted, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._calls = 0
        self._looked_at = 0  # the number of calls at the last check

    @contextmanager
    def next(self) -> Iterator[Channel]:
        """Returns the next connection in turn, which stays open for the block."""
        with self._lock:
            seats = self._seats
            seat = seats[next(self._turn) % len(seats)]
            seat.calls += 1
            self._calls += 1
            if self._is_auto and self._thread is None and self._calls >= AUTO_AFTER and not self._closing.is_set():
                self._begin()
        try:
            yield seat.channel
        finally:
            with self._lock:
                seat.calls -= 1
                is_done = seat in self._leaving and not seat.calls
                if is_done:
                    self._leaving.discard(seat)
            if is_done:
                seat.channel.close()

    def doubt(self) -> None:
        """Asks for an early check of the connections, after a call found nobody."""
        self._doubted.set()

    def close(self) -> None:
        """Closes all connections and cancels their calls."""
        with self._lock:
            self._closing.set()
            seats, thread = (*self._seats, *self._leaving), self._thread
        self._doubted.set()
        for seat in seats:
            seat.channel.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(PROBE_TIMEOUT_S)

    # ---- finding every worker ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        # The thread holds the pool only during a check, so a client that is dropped without `close` is collected.
        self._thread = threading.Thread(
            target=_look_on, args=(weakref.ref(self), self._doubted, self._closing), name="interlock-channels", daemon=True
        )
        self._thread.start()

    def look(self) -> float | None:
        """
        Closes connections to the same worker and opens missing ones. Returns the seconds until the next check; None: never.
        """
        with self._lock:
            if self._closing.is_set():
                return None
            seats, self._looked_at = self._seats, self._calls
        places: list[WorkerPosition | None] = []
        for seat in seats:
            try:
                places.append(WorkerPosition.parse(seat.channel.worker(PROBE_TIMEOUT_S)))
            except CallError:
                return DOUBT_S  # nobody answers, or the worker is stopping: unknown now
        if not any(places):
            return None  # no gateway of ours
        spare = repeated(places)
        self._keep([seat for at, seat in enumerate(seats) if at not in spare])
        self._search([place for at, place in enumerate(places) if place is not None and at not in spare])
        return LOOK_EVERY_S

    def is_idle(self) -> bool:
        """Whether there was no call since the last check."""
        return self._calls == self._looked_at

    def _search(self, reached: list[WorkerPosition]) -> None:
        for _ in range(tries(wanted(reached))):
            if self._closing.is_set() or len(reached) >= wanted(reached):
                return
            channel = self._connect()
            try:
                place = WorkerPosition.parse(channel.worker(PROBE_TIMEOUT_S))
            except CallError:
                place = None
            if place is None or repeated([*reached, place]):
                channel.close()
            else:
                reached.append(place)
                self._keep([*self._seats, _Seat(channel)])

    def _keep(self, seats: list[_Seat]) -> None:
        """In place of those before; the ones left out end with their calls."""
        with self._lock:
            if self._closing.is_set():
                ended = [seat for seat in seats if seat not in self._seats]
            else:
                left = [seat for seat in self._seats if seat not in seats]
                self._leaving.update(seat for seat in left if seat.calls)
                ended = [seat for seat in left if not seat.calls]
                self._seats = tuple(seats)
        for seat in ended:
            seat.channel.close()


def _look_on(reference: weakref.ref[Channels], doubted: threading.Event, closing: threading.Event) -> None:
    while not closing.is_set():
        channels = reference()
        pause_s = channels.look() if channels is not None else None
        del channels
        if pause_s is None:
            return
        _wait(reference, pause_s, doubted, closing)


def _wait(reference: weakref.ref[Channels], pause_s: float, doubted: threading.Event, closing: threading.Event) -> None:
    """Until it is time to look again: never sooner than DOUBT_S, and not while nothing is called."""
    closing.wait(DOUBT_S)
    while not (doubted.wait(pause_s) or closing.is_set()):
        channels = reference()
        if channels is None or not channels.is_idle():
            break
        del channels
    doubted.clear()
