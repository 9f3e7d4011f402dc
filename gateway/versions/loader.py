"""Loads versions for the request path: an ONNX Runtime session in a `Served`, its signature and its memory checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.contract.counts import ArmCounts
from gateway.contract.desired import DesiredVersion
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.process_memory import freed_is_given_back, resident
from gateway.runtime.session import LoadRefused
from gateway.serving.recent_inputs import RecentInputs
from gateway.serving.served import Served
from gateway.versions.ports import LoadFailed
from gateway.versions.warm_up import Rehearsal
from registry.errors import InvalidValue
from registry.examples import Example, from_file

_log = structlog.get_logger("interlock.worker")


class OnnxLoader:
    """Implements `lifecycle.ports.Loader`. ``threads``: intra-op threads of each model; ``recent``: what callers sent."""

    def __init__(self, threads: int, counts_of: Callable[[str, int, str], ArmCounts], recent: RecentInputs) -> None:
        self._threads = threads
        self._recent = recent
        self._counts_of = counts_of

    def load(self, model: str, desired: DesiredVersion) -> Served:
        """See Loader."""
        before = resident()
        try:
            with freed_is_given_back():
                session = OnnxSession(Path(desired.path), threads=self._threads, config=dict(desired.session_config))
        except LoadRefused as error:
            raise LoadFailed(f"{model} v{desired.number} cannot be loaded: {error}") from None
        served = Served(model, desired, session, self._counts_of)
        served.before = before
        served.rehearsal = Rehearsal(_registered(model, desired), self._recent.fitting(model, desired.signature))
        return served


def _registered(model: str, desired: DesiredVersion) -> tuple[Example, ...]:
    """The examples registered with a version. A file that cannot be read costs the good warm-up, not the version."""
    if not desired.examples:
        return ()
    try:
        return from_file(Path(desired.examples).read_bytes())
    except (OSError, InvalidValue) as error:
        _log.error("examples_not_read", model=model, version=desired.number, path=desired.examples, error=str(error))
        return ()


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
