"""Loads versions for the request path: an ONNX Runtime session in a `Served`, its signature and its memory checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gateway.fleet import ArmCounts, DesiredVersion
from gateway.lifecycle.ports import LoadFailed
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.session import LoadRefused
from gateway.worker.served import Served


class OnnxLoader:
    """Implements `lifecycle.ports.Loader`. ``threads`` are the intra-op threads of each model."""

    def __init__(self, threads: int, counts_of: Callable[[str, int, str], ArmCounts]) -> None:
        self._threads = threads
        self._counts_of = counts_of

    def load(self, model: str, desired: DesiredVersion) -> Served:
        """See Loader."""
        before = resident_bytes()
        try:
            session = OnnxSession(Path(desired.path), threads=self._threads)
        except LoadRefused as error:
            raise LoadFailed(f"{model} v{desired.number} cannot be loaded: {error}") from None
        served = Served(model, desired, session, self._counts_of)
        # What the process grew by while this loaded: an estimate, since requests are served meanwhile.
        served.memory_bytes = max(resident_bytes() - before, 0)
        return served


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
