"""
The memory of this process, split into what other processes can share and what they cannot; and returning free memory to the
system. Linux.

The kernel keeps both figures per process, so reading them costs the same however much memory there is; walking the mappings
(smaps) would delay every thread that maps memory meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# mallopt(3)'s number, the variable that sets it from the start, what holds without one, and what holds while something loads.
_SETTINGS = (
    (-3, "MALLOC_MMAP_THRESHOLD_", 32 * 1024**2, 1024**2),
    (-1, "MALLOC_TRIM_THRESHOLD_", 128 * 1024, 128 * 1024),
    (-2, "MALLOC_TOP_PAD_", 128 * 1024, 128 * 1024),
)
_libc = ctypes.CDLL(None)  # once: each is a class of its own, in a cycle
_loads = 0
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Resident:
    """``private_bytes`` are this process' own (RssAnon), ``mapped_bytes`` pages of files, which processes share (RssFile)."""

    private_bytes: int = 0
    mapped_bytes: int = 0

    def since(self, before: Resident) -> Resident:
        """Returns the growth since ``before``; never below 0."""
        private, mapped = self.private_bytes - before.private_bytes, self.mapped_bytes - before.mapped_bytes
        return Resident(max(private, 0), max(mapped, 0))


def resident(pid: int | None = None) -> Resident:
    """
    Returns the resident memory of this process now, or of another; 0 where the system does not tell or the process is gone.
    Never raises.
    """
    try:
        text = os.pread(_status_file(), 65536, 0) if pid is None else Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return Resident()
    found = dict(line.split(":", 1) for line in text.decode("ascii", "replace").splitlines() if line.startswith("Rss"))
    return Resident(_bytes(found.get("RssAnon", "")), _bytes(found.get("RssFile", "")))


@cache
def _status_file() -> int:
    """Returns a descriptor that stays open, so that the figure can be read while descriptors are used up."""
    return os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)


def _bytes(text: str) -> int:
    """Returns the bytes of `` 123 kB``; 0 if the system has no such line."""
    return int(text.split()[0]) * 1024 if text.strip() else 0


def give_back() -> None:
    """Returns free memory of the C library's heap to the system, which by itself keeps it. Does nothing without glibc."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def freed_is_given_back() -> Iterator[None]:
    """
    While the block runs, allocations from 1 MiB on are mappings of their own, and heaps keep next to nothing of what is
    freed: weights are copied and packed in pieces, and the heaps of a worker's threads would keep a hundred MiB of those. For
    the whole process, hence only while something loads or goes: large messages are quicker in a heap that keeps its pages.
    """
    global _loads
    with _lock:
        _loads += 1
        _set_malloc(is_loading=True)
    try:
        yield
    finally:
        with _lock:
            _loads -= 1
            if not _loads:
                _set_malloc(is_loading=False)


def _set_malloc(*, is_loading: bool) -> None:
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is None:
        return
    for number, variable, usual_bytes, loading_bytes in _SETTINGS:
        said = os.environ.get(variable, "")
        mallopt(number, loading_bytes if is_loading else int(said) if said.isdigit() else usual_bytes)
