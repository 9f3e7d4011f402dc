"""
What memory this process takes, told apart by whether other processes can share it, and giving back what is free. Linux.

The kernel keeps both figures per process, so reading them costs the same however much memory there is; walking the
mappings (smaps) would hold up every thread that maps memory meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of mallopt(3)
_LARGEST_THRESHOLD = 32 * 1024**2  # glibc's own bound for it
_LOADING_THRESHOLD = 1024**2
_loads = 0
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Resident:
    """``private_bytes`` are this process' own (RssAnon), ``mapped_bytes`` pages of files, which processes share (RssFile)."""

    private_bytes: int = 0
    mapped_bytes: int = 0

    def since(self, before: Resident) -> Resident:
        """What came on top of ``before``; never below 0."""
        private, mapped = self.private_bytes - before.private_bytes, self.mapped_bytes - before.mapped_bytes
        return Resident(max(private, 0), max(mapped, 0))


def resident() -> Resident:
    """Of this process, now."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = dict(line.split(":", 1) for line in file if line.startswith("Rss"))
    return Resident(_bytes(found.get("RssAnon", "")), _bytes(found.get("RssFile", "")))


def _bytes(text: str) -> int:
    """Of ``  123 kB``; 0 where the system has no such line."""
    return int(text.split()[0]) * 1024 if text.strip() else 0


def give_back() -> None:
    """Hands free memory of the C library's heap to the system, which by itself it keeps; nothing where there is no glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def large_blocks_mapped() -> Iterator[None]:
    """
    While the block runs, allocations from 1 MiB on are mappings of their own, so that freeing them gives them back: weights
    are copied and packed in pieces, and the heaps of a worker's threads would keep a hundred MiB of what is freed. For
    the whole process, hence only while something loads: large messages are quicker in a heap that keeps its pages.
    """
    global _loads
    with _lock:
        _loads += 1
        _set_threshold(_LOADING_THRESHOLD)
    try:
        yield
    finally:
        with _lock:
            _loads -= 1
            if not _loads:
                said = os.environ.get("MALLOC_MMAP_THRESHOLD_", "")
                _set_threshold(int(said) if said.isdigit() else _LARGEST_THRESHOLD)


def _set_threshold(size_bytes: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, size_bytes)
