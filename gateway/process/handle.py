"""One child process of the supervisor: spawning it, reading what it says on its connection, and signalling it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from gateway.contract.deaths import NotedRun, VersionName
from gateway.process.backoff import Deaths
from gateway.process.last_runs import LastRuns
from gateway.process.orders import RESTART, SERVING, VARIABLE, Orders, encode

# These have to be set before grpc is imported. The event engine's listener and client cost a worker more than they give on few
# cores, fused filters save a twentieth of a call (the request path's benchmark shows both at every grpcio upgrade); glibc's
# malloc would give buffers of large messages back to the kernel and fault them in again at every call. What the operator has
# set stays.
EVERY_CHILD = {
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "GRPC_VERBOSITY": "ERROR",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
EVERY_WORKER = {
    "GRPC_EXPERIMENTS": "-event_engine_listener,-event_engine_client,fuse_filters",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),  # glibc's largest
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2),
    "MALLOC_TOP_PAD_": str(16 * 1024**2),
}


def environment(role: str) -> dict[str, str]:
    """Returns the variables that a process of ``role`` needs from its first instruction on. The operator's own values win."""
    wanted = EVERY_CHILD | (EVERY_WORKER if role == "worker" else {})
    return {name: value for name, value in wanted.items() if name not in os.environ}


class Child:
    """One process and its predecessors in the same position. Not thread-safe: the supervisor's loop owns it."""

    def __init__(self, orders: Orders, *, inherit: Sequence[int]) -> None:
        """``inherit`` are file descriptors that the process keeps open (the home's lock)."""
        self._orders = orders
        self._inherit = tuple(inherit)
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._words = b""
        self._requests = 0
        self._started_s = 0.0
        self._last_runs: LastRuns | None = None
        self.isolate: tuple[VersionName, ...] = ()  # versions that its next process keeps apart
        self.last_runs: tuple[NotedRun, ...] = ()  # suspects of the last death
        self.deaths = Deaths()
        self.start_at_s = 0.0  # monotonic time of the next start while no process runs

    @property
    def name(self) -> str:
        """The child's name for people."""
        return f"worker {self._orders.number}" if self._orders.role == "worker" else self._orders.role

    @property
    def role(self) -> str:
        """control or worker."""
        return self._orders.role

    @property
    def pid(self) -> int | None:
        """The running process' id."""
        return self._process.pid if self._process is not None else None

    @property
    def is_serving(self) -> bool:
        """Whether the running process has said that it serves."""
        return self._process is not None and self._words.startswith(SERVING)

    @property
    def last_words(self) -> str:
        """The reason of the last failure, if the process gave one."""
        return self._words.removeprefix(SERVING).decode(errors="replace").strip()

    @property
    def number(self) -> int:
        """The worker's number, from 0."""
        return self._orders.number

    @property
    def replacements(self) -> int:
        """The number of planned replacements of its process."""
        return self._orders.replacements

    def successor(self) -> Child:
        """Returns the child that is to replace it; not started."""
        made = Child(replace(self._orders, replacements=self._orders.replacements + 1), inherit=self._inherit)
        # A worker that has served can serve: after a later death it is always started again.
        made.deaths = replace(self.deaths, in_a_row=0, has_served=True)
        return made

    def spawn(self, *, must_be_ready: bool = False) -> None:
        """
        Starts a process: a new interpreter in its own process group, so that a terminal's Ctrl-C reaches the supervisor
        alone. Raises OSError if the system refuses one, for lack of descriptors, processes or memory.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        is_worker = self.role == "worker"
        notes = LastRuns() if is_worker else None
        orders = replace(
            self._orders,
            line=theirs.fileno(),
            restarts=self.deaths.total,
            must_be_ready=must_be_ready,
            notes=notes.descriptor if notes else -1,
            isolate=self.isolate,
        )
        number = [str(orders.number)] if is_worker else []
        self._words = b""
        self._started_s = time.monotonic()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", orders.role, *number],
                env={**os.environ, **environment(orders.role), VARIABLE: encode(orders)},
                pass_fds=(*self._inherit, theirs.fileno(), *([notes.descriptor] if notes else [])),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # standard output is for the supervisor's one line
                process_group=0,
            )
        except BaseException:
            ours.close()
            if notes is not None:
                notes.take()
            raise
        finally:
            theirs.close()
        self._line, self._last_runs = ours, notes

    def listen(self) -> None:
        """Reads what the process has said so far."""
        while self._line is not None:
            try:
                data = self._line.recv(4096)
            except OSError:
                return  # nothing more now, or reset by its death
            if not data:
                return
            self._requests += data.count(RESTART)
            self._words += data.replace(RESTART, b"")

    def take_request(self) -> bool:
        """Whether it has asked for a rolling restart since the last call."""
        found, self._requests = self._requests > 0, 0
        return found

    def tell(self, line: bytes) -> bool:
        """Sends a line to the process. Returns False if it does not run or does not read."""
        if self._line is None:
            return False
        try:
            return self._line.send(line) == len(line)
        except OSError:
            return False

    def reap(self) -> int | None:
        """Returns the exit code once after the process has ended (negative: the signal); None while it runs or if none does."""
        self.listen()
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self.listen()
        self._process = None
        if self._last_runs is not None:
            self.last_runs, self._last_runs = self._last_runs.take(), None
        if self._line is not None:
            self._line.close()
            self._line = None
        return code

    @property
    def lived_s(self) -> float:
        """Returns the seconds since the last start."""
        return time.monotonic() - self._started_s

    @property
    def has_served(self) -> bool:
        """Whether the last process served, also after it has ended."""
        return self._words.startswith(SERVING)

    def signal(self, number: signal.Signals) -> None:
        """Signals the process if it runs."""
        if self._process is not None:
            self._process.send_signal(number)


def end_of(code: int) -> str:
    """Describes how a process with this exit code ended (negative: the signal)."""
    return f"ended with code {code}" if code >= 0 else f"was ended by {signal_of(code)}"


def signal_of(code: int) -> str:
    """Returns the name of the signal that ended a process, or ``exit`` and the code."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
