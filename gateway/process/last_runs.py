"""
The memory in which a worker process notes its runs: made by the supervisor, written by the worker, read after its death.

It is memory without a file, so nothing is left behind and no disk is waited for. The content is `gateway.contract.run_notes`.
"""

from __future__ import annotations

import faulthandler
import mmap
import os

from gateway.contract.deaths import NotedRun
from gateway.contract.run_notes import FAULT_BYTES, NOTES_BYTES, RunNotes, suspects


class LastRuns:
    """The supervisor's side, of one process. ``descriptor`` is for the process to inherit."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("interlock-runs")
        os.ftruncate(self.descriptor, NOTES_BYTES)

    def take(self) -> tuple[NotedRun, ...]:
        """Returns what the process ran when it ended, and gives the memory back."""
        try:
            notes = os.pread(self.descriptor, NOTES_BYTES, 0)
            fault = os.pread(self.descriptor, FAULT_BYTES, NOTES_BYTES)
        finally:
            os.close(self.descriptor)
        return suspects(notes, fault.decode(errors="replace"))


def shared_notes(descriptor: int) -> RunNotes:
    """
    Returns the notes of this process, in the memory that its supervisor reads. Has the interpreter write there, too, which
    thread has failed if a signal like SIGSEGV or SIGFPE ends the process.
    """
    memory = mmap.mmap(descriptor, NOTES_BYTES)
    os.lseek(descriptor, NOTES_BYTES, os.SEEK_SET)
    faulthandler.enable(descriptor, all_threads=True)
    return RunNotes(memoryview(memory))
