"""
What is known of the rows of versions that are registered already.

Versions of earlier releases, whose rows were only sampled, are proved here, one after the other, in the background. And a
version that a worker stopped to batch, because a batch could not be split, is not batched again by any worker.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from gateway.control.catalog.registration import Trial
from gateway.control.desired.reconcile import ModelPlan, held
from gateway.control.fleet.progress import FleetView
from registry.errors import InvalidModel, InvalidValue, RegistryError
from registry.examples import Example, from_file
from registry.registry import Registry
from registry.versions import ModelVersion, RowProof

STOP_S = 5.0
Key = tuple[str, int]  # model and number
_log = structlog.get_logger("interlock.control")


class Desired(Protocol):
    """The desired state, as far as proofs need it."""

    def plans(self) -> Mapping[str, ModelPlan]:
        """Returns the plan of each model."""
        ...

    def take_version(self, version: ModelVersion) -> int:
        """Takes a version of which more is known than before."""
        ...


class RowProofs:
    """``trial`` runs a model in a process of its own, and leaves the processor to others. Thread-safe."""

    def __init__(self, registry: Registry, desired: Desired, trial: Trial) -> None:
        self._registry, self._desired, self._trial = registry, desired, trial
        self._tried: set[Key] = set()  # once in a life of control: what failed may go well in the next
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to prove, in a thread of its own."""
        self._thread = threading.Thread(target=self._prove_all, name="row-proofs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the proof that is being made, for which it waits a few seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _prove_all(self) -> None:
        try:
            for version in self.waiting():
                if self._stopping.is_set():
                    return
                self.prove(version)
        except RegistryError as error:  # the next start tries again
            _log.error("row_proofs_stopped", error=str(error))

    def waiting(self) -> Iterable[ModelVersion]:
        """Yields versions whose rows were only sampled: those that should be loaded first, then all others, newest first."""
        keys = [(name, number) for name, plan in self._desired.plans().items() for number in held(plan)]
        for name, number in keys:
            yield from self._unproved(self._registry.version(name, number))
        for model in self._registry.all_models():
            for version in self._registry.every_version(model.name):
                yield from self._unproved(version)

    def _unproved(self, version: ModelVersion) -> Iterable[ModelVersion]:
        key = (version.model, version.number)
        if version.facts.row_proof is RowProof.SAMPLED and key not in self._tried:
            self._tried.add(key)
            yield version

    def prove(self, version: ModelVersion) -> None:
        """Proves one version and records the result. It keeps what is known of it if the trial cannot be made now."""
        try:
            path = self._registry.artifact_path(version)
            facts = self._trial(path, version.facts.prediction, self._examples(version))
        except (InvalidModel, InvalidValue) as error:
            proof, reason = RowProof.NOT_PROVED, f"the trial failed: {error}"
            batched: tuple[tuple[str, ...], ...] = ()
        except (RegistryError, OSError) as error:
            _log.warning("rows_not_proved", model=version.model, version=version.number, error=str(error))
            return
        else:
            proof, reason, batched = facts.row_proof, facts.batching_reason, facts.batched_inputs
        if proof is not RowProof.SAMPLED:
            self._record(version, proof, reason, batched)

    def _examples(self, version: ModelVersion) -> tuple[Example, ...]:
        path = self._registry.examples_path(version)
        return from_file(path.read_bytes()) if path is not None else ()

    def take_in(self, view: FleetView) -> None:
        """Records versions that a worker stopped to batch."""
        for worker in view.lives():
            for seen in worker.observed.versions if worker.observed else ():
                if seen.batch_failure:
                    version = self._registry.version(seen.model, seen.number)
                    if version.facts.row_proof is not RowProof.IMPOSSIBLE:
                        self._record(version, RowProof.IMPOSSIBLE, seen.batch_failure, ())

    def _record(self, version: ModelVersion, proof: RowProof, reason: str, batched: tuple[tuple[str, ...], ...]) -> None:
        found = self._registry.set_row_proof(version.model, version.number, proof, reason=reason, batched_inputs=batched)
        self._desired.take_version(found)
        _log.info("row_proof", model=version.model, version=version.number, proof=str(proof), reason=reason)
