"""A process' CPU time and memory as the kernel counts them, and a thread that samples a gauge. Linux only."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np

MIB = 1024**2
T = TypeVar("T")
_CPUCLOCK_SCHED = 2


def cpu_s(pid: int) -> float:
    """
    Returns the CPU time of a process with all its threads, in seconds to the nanosecond: its CPU clock
    (linux/posix-timers.h).
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


@dataclass(frozen=True, slots=True)
class Memory:
    """
    Bytes: ``private`` to the process alone, ``resident`` in all, ``proportional`` with shared pages divided by sharers.

    ``anonymous`` leaves out the pages of mapped files: those are the page cache's, and count as private only as long as no
    second process has mapped the file too.
    """

    private: int
    anonymous: int
    resident: int
    proportional: int

    @classmethod
    def of(cls, pid: int) -> Memory:
        """From /proc/PID/smaps_rollup, which walks the page tables: some milliseconds for a large process."""
        sizes: dict[str, int] = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            sizes[name] = int(rest.split()[0]) * 1024
        return cls(sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Anonymous"], sizes["Rss"], sizes["Pss"])


def resident_bytes(pid: int) -> int:
    """Returns resident memory from /proc/PID/statm, which costs little."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


class Sampler(Generic[T]):
    """Reads a gauge every so often while the context is open; ``samples`` are (`time.perf_counter`, value)."""

    def __init__(self, read: Callable[[], T], every_s: float = 0.02) -> None:
        self.samples: list[tuple[float, T]] = []
        self._read, self._every_s = read, every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                self.samples.append((time.perf_counter(), self._read()))
            except OSError:
                return  # the process has ended

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()


def spent(samples: Sequence[tuple[float, float]], start_s: float, end_s: float) -> float:
    """By how much a sampled counter grew between two moments, interpolated."""
    times, values = zip(*samples, strict=True)
    before, after = np.interp((start_s, end_s), times, values)
    return float(after - before)
