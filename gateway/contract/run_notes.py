"""
Run notes: what a worker runs at this moment, in memory that it shares with its supervisor, so that a death has a name.

A note costs the request path two words written to mapped memory: no system call, and nothing is allocated. The supervisor
reads them when the worker has died. Behind them, Python's faulthandler writes which thread has failed. Nothing here knows
sockets or processes.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterator

from gateway.contract.deaths import NotedRun

THREADS = 1024  # that run something at one moment; the runs of further ones are not noted
VERSIONS = 4096  # in memory at one moment; the runs of further ones are not noted
_SLOT_WORDS, _IDS_BYTES, _NAME_BYTES = 32, 240, 160
_SLOT_BYTES = _SLOT_WORDS * 8  # a word for the run, one for the thread, then the ids
_NAMES_AT = THREADS * _SLOT_BYTES
NOTES_BYTES = _NAMES_AT + VERSIONS * _NAME_BYTES
FAULT_BYTES = 16_384  # of faulthandler's text that are read
_FAULT = re.compile(r"^Current thread 0x([0-9a-f]+)", re.MULTILINE)
_HEAD = struct.Struct("<QQ")


class RunNotes:
    """
    The worker's side. ``memory`` has NOTES_BYTES zeros that others can read; None: the notes are for nobody. Thread-safe:
    each thread has a slot of its own, and runs one thing at a time.
    """

    def __init__(self, memory: memoryview | None = None) -> None:
        self._bytes = memoryview(bytearray(NOTES_BYTES)) if memory is None else memory
        self._words = self._bytes.cast("Q")
        self._marks = list(range(VERSIONS - 1, 0, -1))  # free ones; 0 stands for nothing
        self._slots = [slot * _SLOT_WORDS for slot in reversed(range(THREADS))]  # free ones
        self._thread = threading.local()

    def enter(self, model: str, number: int) -> int:
        """Names a version. Returns the mark with which its runs are noted; 0 if there is no room."""
        try:
            mark = self._marks.pop()
        except IndexError:
            return 0
        at = _NAMES_AT + mark * _NAME_BYTES
        self._bytes[at : at + _NAME_BYTES] = f"{model}|{number}".encode().ljust(_NAME_BYTES, b"\0")
        return mark

    def leave(self, mark: int) -> None:
        """Forgets a version."""
        if mark:
            self._marks.append(mark)

    def begin(self, mark: int, requests: int = 0, ids: bytes = b"") -> None:
        """
        Notes that this thread runs a version for ``requests``, with their encoded ``ids``; none: it loads or warms it up.
        """
        try:
            at = self._thread.slot.at
        except AttributeError:
            at = self._take_slot()
        if ids:
            ids = ids[:_IDS_BYTES]
            self._bytes[at * 8 + 16 : at * 8 + 16 + len(ids)] = ids
        self._words[at] = mark << 32 | requests << 8 | len(ids)

    def end(self) -> None:
        """Notes that this thread runs nothing."""
        self._words[self._thread.slot.at] = 0

    def _take_slot(self) -> int:
        self._thread.slot = slot = _Slot(self._slots)
        self._words[slot.at + 1] = threading.get_ident()
        return slot.at


class _Slot:
    """The place of one thread's notes; free again when the thread has ended. Without a free place, threads share the first."""

    def __init__(self, free: list[int]) -> None:
        self._free = free
        self.at = free.pop() if len(free) > 1 else free[0]

    def __del__(self) -> None:
        if self.at != self._free[0]:
            self._free.append(self.at)


def suspects(notes: bytes, fault: str) -> tuple[NotedRun, ...]:
    """
    Returns what may have ended the process that left these ``notes``, and ``fault``, faulthandler's text. If the thread that
    failed is in there, its run alone.
    """
    found = _FAULT.search(fault)
    runs = tuple(_runs(notes, int(found[1], 16) if found else 0))
    return tuple(run for run in runs if run.is_certain) or runs


def _runs(notes: bytes, failed: int) -> Iterator[NotedRun]:
    for at in range(0, _NAMES_AT, _SLOT_BYTES):
        word, thread = _HEAD.unpack_from(notes, at)
        name_at = _NAMES_AT + (word >> 32) * _NAME_BYTES
        name = notes[name_at : name_at + _NAME_BYTES].rstrip(b"\0").decode(errors="replace") if word else ""
        model, _, number = name.partition("|")
        if number.isdigit():
            ids = notes[at + 16 : at + 16 + (word & 0xFF)]
            yield NotedRun(model, int(number), word >> 8 & 0xFFFFFF, tuple(_ids(ids)), thread == failed)


def _ids(fields: bytes) -> Iterator[str]:
    """Returns the texts in protobuf fields with a tag of one byte, one after the other; the last may be cut off."""
    at = 1
    while at < len(fields):
        size = shift = 0
        more = True
        while more and at < len(fields):
            size, more = size | (fields[at] & 0x7F) << shift, fields[at] >= 0x80
            shift, at = shift + 7, at + 1
        yield fields[at : at + size].decode(errors="replace")
        at += size + 1
