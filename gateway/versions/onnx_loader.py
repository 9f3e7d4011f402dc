"""Loads versions with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import structlog

from gateway.contract.desired import DesiredVersion
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.process_memory import freed_is_given_back, resident
from gateway.runtime.session import LoadRefused
from gateway.versions.loaded import LoadedVersion
from gateway.versions.recent_inputs import RecentInputs
from gateway.versions.warm_up import LoadFailed, Rehearsal
from registry.errors import InvalidValue
from registry.examples import Example, from_file

_log = structlog.get_logger("interlock.versions")


class OnnxLoader:
    """A `Loader`. ``threads``: intra-op threads of each model; ``recent``: inputs of recent requests, for warm-ups."""

    def __init__(self, threads: int, recent: RecentInputs) -> None:
        self._threads, self._recent = threads, recent

    def load(self, model: str, desired: DesiredVersion) -> LoadedVersion:
        if desired.damage:
            raise LoadFailed(f"{model} v{desired.number} cannot be loaded: {desired.damage}")
        before = resident()
        try:
            with freed_is_given_back():
                session = OnnxSession(Path(desired.path), threads=self._threads, config=dict(desired.session_config))
        except LoadRefused as error:
            raise LoadFailed(f"{model} v{desired.number} cannot be loaded: {error}") from None
        rehearsal = Rehearsal(_registered(model, desired), self._recent.fitting(model, desired.signature))
        version = LoadedVersion(model, desired, session, rehearsal)
        version.memory_before = before
        return version


def _registered(model: str, desired: DesiredVersion) -> tuple[Example, ...]:
    """Returns the examples registered with a version. If their file cannot be read, the version is warmed up without them."""
    if not desired.examples:
        return ()
    try:
        return from_file(Path(desired.examples).read_bytes())
    except (OSError, InvalidValue) as error:
        _log.error("examples_not_read", model=model, version=desired.number, path=desired.examples, error=str(error))
        return ()
