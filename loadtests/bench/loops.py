"""
The load loops over `raw_http2.Connection`, and the process that runs one: `python -m loadtests.bench.loops ORDER.json`.

Open loops take their times from a profile of rates; closed loops keep a number of calls on their way.
"""

from __future__ import annotations

import ctypes
import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtests.bench.raw_http2 import RESET, UNANSWERED, Connection, Disconnected, wait

PATH = "/inference.GRPCInferenceService/ModelInfer"
STREAM_PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
MOST_AT_ONCE = 64  # calls begun before the socket is looked at again
RECONNECT_S = 0.05
_PR_SET_TIMERSLACK = 29  # prctl(2)


@dataclass(frozen=True, slots=True)
class Order:
    """
    What a load process is to do.

    ``bodies``: file of gRPC messages with their prefixes, one after another. ``kind``: open, closed or pipelined. ``depth``:
    calls on their way per connection (closed, pipelined). ``profile``: (calls a second, seconds) in turn; a closed loop reads
    the seconds only. ``is_random``: Poisson arrivals, else evenly spaced. ``timeout_ms`` goes with each call as its deadline.
    ``drain_s``: how long answers are waited for after the last call.
    """

    port: int
    bodies: str
    out: str
    kind: str
    profile: tuple[tuple[float, float], ...]
    depth: int = 1
    connections: int = 1
    timeout_ms: int | None = None
    is_random: bool = False
    seed: int = 0
    drain_s: float = 5.0

    @property
    def seconds(self) -> float:
        """From the first call to the last."""
        return sum(seconds for _, seconds in self.profile)


@dataclass(slots=True)
class Record:
    """Per call: when it was due, when it ended (`time.perf_counter`), its status; per open call: how late it was begun."""

    due: NDArray[np.float64]
    ended: NDArray[np.float64]
    status: NDArray[np.int64]
    late: NDArray[np.float64]


def split_messages(data: bytes) -> list[bytes]:
    """The gRPC messages of a file, each with its prefix. Raises ValueError when it ends inside one."""
    found, at = [], 0
    while at < len(data):
        size = 5 + int.from_bytes(data[at + 1 : at + 5], "big")
        if at + size > len(data):
            raise ValueError(f"the file of {len(data)} bytes ends inside the message that begins at {at}")
        found.append(data[at : at + size])
        at += size
    return found


def due_times(profile: Sequence[tuple[float, float]], *, is_random: bool, seed: int = 0) -> NDArray[np.float64]:
    """Seconds from the start at which calls are due: evenly spaced within each part of the profile, or a Poisson process."""
    parts, start, random = [], 0.0, np.random.default_rng(seed)
    for rate, seconds in profile:
        if is_random:  # given their number, the times of a Poisson process are uniform
            times = np.sort(random.uniform(0, seconds, random.poisson(rate * seconds)))
        else:
            times = np.arange(round(rate * seconds)) / rate if rate else np.empty(0)
        parts.append(start + times)
        start += seconds
    return np.concatenate(parts) if parts else np.empty(0)


class Loop:
    """Connections to one server, renewed when the server closes them."""

    def __init__(self, order: Order, bodies: Sequence[bytes]) -> None:
        self._order = order
        self._bodies = bodies
        self._path = STREAM_PATH if order.kind == "pipelined" else PATH
        self._finished: list[tuple[float, float, int]] = []
        self._late: list[float] = []
        self._connections = [self._connect() for _ in range(order.connections)]
        self._leaving: list[Connection] = []
        self._is_over = False

    def stop(self) -> None:
        """No more calls; what is on its way is waited for. May be called from a signal handler or another thread."""
        self._is_over = True

    def _connect(self) -> Connection:
        connection = Connection(self._order.port, self._path, self._bodies, timeout_ms=self._order.timeout_ms)
        connection.finished = self._finished
        return connection

    def run(self) -> Record:
        """Makes the load; returns when every call has its answer, or after the time to drain."""
        {"open": self._run_open, "closed": self._run_closed, "pipelined": self._run_pipelined}[self._order.kind]()
        now = time.perf_counter()
        for connection in (*self._connections, *self._leaving):
            connection.abandon(now, UNANSWERED)
        due, ended, status = zip(*self._finished, strict=True) if self._finished else ((), (), ())
        return Record(np.array(due), np.array(ended), np.array(status, np.int64), np.array(self._late))

    def _run_open(self) -> None:
        begin = time.perf_counter() + 0.05
        offsets = due_times(self._order.profile, is_random=self._order.is_random, seed=self._order.seed)
        dues: list[float] = (offsets + begin).tolist()
        until = begin + self._order.seconds + self._order.drain_s
        place, count = 0, len(dues)
        while True:
            now = time.perf_counter()
            most = min(count, place + MOST_AT_ONCE)
            while place < most and dues[place] <= now:
                self._connections[place % len(self._connections)].call(dues[place])
                self._late.append(now - dues[place])
                place += 1
            if self._is_over and place < count:
                place, until = count, now + self._order.drain_s
            if place == count and (now > until or not self._unanswered()):
                return
            self._wait((dues[place] if place < count else until) - time.perf_counter())

    def _run_closed(self) -> None:
        def fill(now: float) -> None:
            for connection in self._connections:
                for _ in range(self._order.depth - len(connection.open)):
                    connection.call(now)

        self._run_while(fill)

    def _run_pipelined(self) -> None:
        streams = [(connection, connection.begin_pipeline()) for connection in self._connections]

        def fill(now: float) -> None:
            for connection, stream in streams:
                if connection.has_pipeline(stream):
                    connection.send(stream, now, self._order.depth - connection.unanswered)
            if not any(connection.has_pipeline(stream) for connection, stream in streams):
                self._is_over = True  # the server has ended them all: the statuses say why

        self._run_while(fill)

    def _run_while(self, fill: Callable[[float], None]) -> None:
        """Keeps as many on their way as ``fill`` says, for the profile's time; then waits for the answers."""
        now = time.perf_counter()
        end = now + self._order.seconds
        while True:  # once at least, however late the machine lets us begin
            fill(now)
            self._wait(end - now)
            now = time.perf_counter()
            if now >= end or self._is_over:
                break
        until = time.perf_counter() + self._order.drain_s
        while self._unanswered() and time.perf_counter() < until:
            self._wait(until - time.perf_counter())

    def _unanswered(self) -> int:
        return sum(connection.unanswered for connection in (*self._connections, *self._leaving))

    def _wait(self, timeout_s: float) -> None:
        try:
            wait((*self._connections, *self._leaving), timeout_s)
        except Disconnected:
            self._drop_dead()
        self._replace_leaving()

    def _drop_dead(self) -> None:
        """Calls on a connection that the server cut end as RESET; the connection is opened anew."""
        now = time.perf_counter()
        for index, connection in enumerate(self._connections):
            if _is_dead(connection):
                self._connections[index] = self._successor(connection)
                connection.abandon(now, RESET)
        for connection in [one for one in self._leaving if _is_dead(one)]:
            connection.abandon(now, RESET)
            self._leaving.remove(connection)

    def _replace_leaving(self) -> None:
        for index, connection in enumerate(self._connections):
            if connection.is_leaving and self._order.kind != "pipelined":
                self._leaving.append(connection)
                self._connections[index] = self._successor(connection)
        for connection in [one for one in self._leaving if not one.unanswered]:
            connection.abandon(time.perf_counter(), RESET)
            self._leaving.remove(connection)

    def _successor(self, connection: Connection) -> Connection:
        """A new connection, over which the calls go that the old one has not sent."""
        made = self._reconnect()
        while connection.held:
            made.call(connection.held.popleft())
        return made

    def _reconnect(self) -> Connection:
        until = time.perf_counter() + self._order.drain_s
        while True:
            try:
                return self._connect()
            except OSError:
                if time.perf_counter() > until:
                    raise
                time.sleep(RECONNECT_S)


def _is_dead(connection: Connection) -> bool:
    """Whether the server has closed it (told by trying)."""
    try:
        connection.receive()
        connection.flush()
    except Disconnected:
        return True
    return False


def main() -> int:
    """Runs the order in the file named on the command line; writes the record and prints the summary."""
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # wake up when due, not within 50 µs of it
    loop = Loop(order, split_messages(Path(order.bodies).read_bytes()))
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    gc.collect()
    gc.disable()
    record = loop.run()
    with open(order.out, "wb") as file:
        np.savez(file, due=record.due, ended=record.ended, status=record.status, late=record.late)
    return 0


if __name__ == "__main__":
    sys.exit(main())
