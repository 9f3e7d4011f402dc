"""Loads versions with ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from gateway.contract.desired import DesiredVersion
from gateway.contract.run_notes import RunNotes
from gateway.runtime.isolated.child_process import ModelToRun
from gateway.runtime.isolated.isolated_session import IsolatedSession
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.process_memory import freed_is_given_back, resident
from gateway.runtime.session import LoadRefused, Session
from gateway.versions.isolated_deaths import IsolatedDeaths
from gateway.versions.loaded import NOBODYS_NOTES, LoadedVersion
from gateway.versions.recent_inputs import RecentInputs
from gateway.versions.warm_up import LoadFailed, Rehearsal
from registry.errors import InvalidValue
from registry.examples import Example, from_file

_log = structlog.get_logger("interlock.versions")


class OnnxLoader:
    """
    A `Loader`. ``threads``: intra-op threads of each model; ``recent``: inputs of recent requests, for warm-ups; ``notes``
    tell what was loaded or run if this process dies of it.
    """

    def __init__(self, threads: int, recent: RecentInputs, notes: RunNotes = NOBODYS_NOTES) -> None:
        self._threads, self._recent, self._notes = threads, recent, notes
        self.isolated_deaths = IsolatedDeaths()
        # Children inherit the priority of the thread that starts them. This one is started here, where it is the usual one.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="spawn")
        self._spawner.submit(int).result()

    def load(self, model: str, desired: DesiredVersion) -> LoadedVersion:
        if desired.damage:
            raise LoadFailed(f"{model} v{desired.number} cannot be loaded: {desired.damage}")
        before = resident()
        try:
            session = self._isolated(model, desired) if desired.isolation == "process" else self._session(model, desired)
        except LoadRefused as error:
            raise LoadFailed(f"{model} v{desired.number} cannot be loaded: {error}") from None
        recorded = self._recent.fitting(model, desired.signature)
        rehearsal = Rehearsal(_registered(model, desired), recorded, partial(self._recent.forget, model))
        version = LoadedVersion(model, desired, session, rehearsal, self._notes)
        version.memory_before = before
        return version

    def _isolated(self, model: str, desired: DesiredVersion) -> IsolatedSession:
        file = ModelToRun(Path(desired.path), self._threads, dict(desired.session_config))
        return IsolatedSession(file, self._spawner, partial(self.isolated_deaths.add, model, desired.number))

    def _session(self, model: str, desired: DesiredVersion) -> Session:
        mark = self._notes.enter(model, desired.number)
        self._notes.begin(mark)
        try:
            with freed_is_given_back():
                return OnnxSession(Path(desired.path), threads=self._threads, config=dict(desired.session_config))
        finally:
            self._notes.end()
            self._notes.leave(mark)


def _registered(model: str, desired: DesiredVersion) -> tuple[Example, ...]:
    """Returns the examples registered with a version. If their file cannot be read, the version is warmed up without them."""
    if not desired.examples:
        return ()
    try:
        return from_file(Path(desired.examples).read_bytes())
    except (OSError, InvalidValue) as error:
        _log.error("examples_not_read", model=model, version=desired.number, path=desired.examples, error=str(error))
        return ()
