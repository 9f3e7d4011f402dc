"""Process trees: their CPU time, and ending them whole. Needs psutil (the `dev` extra)."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

from loadtests.bench import gauges

STOP_TIMEOUT_S = 30.0  # Triton tidies its shared memory up; killed, it leaves it


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(roots: Iterable[int], without: Iterable[int] = ()) -> float:
    """User and system seconds that the trees have used so far, those of ``without`` left out."""
    left_out = {process.pid for root in without for process in tree(root)}
    members = {process.pid for root in roots for process in tree(root)}
    total = 0.0
    for pid in members - left_out:
        try:
            total += gauges.cpu_s(pid)
        except OSError:  # it has ended meanwhile
            continue
    return total


def stop_tree(process: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """SIGTERM to the process; then, or after the time limit, an end to whatever is left of its tree."""
    members = tree(process.pid) if process.poll() is None else []
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for member in members:
        try:
            member.kill()  # psutil compares the start time first, so a reused process id is safe
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(members, timeout=5)


@dataclass(frozen=True, slots=True)
class Watched:
    """``server`` are the trees that answer; ``beside`` those that serve it otherwise (control), less the former."""

    server: tuple[int, ...]
    beside: tuple[int, ...] = ()


class CpuWindow:
    """
    The CPU seconds of a server in a window inside a load: from ``begin_s`` after entering, for ``length_s``.

    Not from end to end: h2load's warm-up makes requests that its report doesn't count.
    """

    def __init__(self, watched: Watched, begin_s: float, length_s: float) -> None:
        self._watched, self._begin_s, self._length_s = watched, begin_s, length_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="cpu")
        self.server_s = self.beside_s = self.window_s = 0.0

    def _measure(self) -> None:
        if self._stop.wait(self._begin_s):
            return
        began, server, beside = time.perf_counter(), *self._read()
        if self._stop.wait(self._length_s):
            return
        now_server, now_beside = self._read()
        self.server_s, self.beside_s = now_server - server, now_beside - beside
        self.window_s = time.perf_counter() - began

    def _read(self) -> tuple[float, float]:
        watched = self._watched
        return cpu_s(watched.server), cpu_s(watched.beside, without=watched.server)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._stop.set()
        self._thread.join()
