"""
The check, before anything loads, that a change fits into the memory that all workers may use together.

The need of a version is estimated from its memory where it is or was loaded; else from the measurement that was made with
its serving layout; else as its size times a factor. Private memory counts once per worker. Mapped weights count once for all
workers, and once for all versions that share them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.contract.version_state import VersionState
from gateway.control.catalog.eviction import VersionKey
from gateway.control.catalog.layout_store import LayoutStore
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.fleet.progress import FleetView
from gateway.errors import ForbiddenNow
from gateway.runtime.layout_choice import PREPACKED
from registry.versions import ModelVersion

READY = VersionState.READY
MIB = 1024**2
UNKNOWN_FACTOR = 2.5  # memory / file size of a model that was never measured: its weights, and a copy packed for speed
RESERVE_SHARE = 0.10  # share of the machine's memory that is kept free for control and other processes
LEAST_RESERVE_BYTES = 256 * MIB  # bytes; the reserve on a small machine, where the share would be too little


@dataclass(frozen=True, slots=True)
class Need:
    """
    The memory that a loaded version needs: ``private_bytes`` in each worker, and ``weights`` (bytes by file name), mapped
    once for all workers. Private memory is measured; the weights come from the layout's description.
    """

    private_bytes: int
    weights: Mapping[str, int]


def limit_of(budget_bytes: int, machine_bytes: int) -> int:
    """Returns the budget in bytes: ``budget_bytes`` as configured, or for 0 the machine's memory minus the reserve."""
    return budget_bytes or machine_bytes - max(int(machine_bytes * RESERVE_SHARE), LEAST_RESERVE_BYTES)


def weights_of(needs: Iterable[Need]) -> dict[str, int]:
    """Returns the bytes of all weights by file name, each file once."""
    return {name: size for need in needs for name, size in need.weights.items()}


class MemoryBudget:
    """
    The memory budget of all workers together. Thread-safe. ``limit_bytes`` includes the memory that workers need without
    any model.
    """

    def __init__(self, limit_bytes: int, desired: DesiredStateStore, layouts: LayoutStore) -> None:
        self._limit_bytes, self._desired, self._layouts = limit_bytes, desired, layouts
        self._lock = threading.Lock()
        self._measured: dict[VersionKey, int] = {}  # private bytes of versions that are or were loaded

    def __repr__(self) -> str:
        return f"MemoryBudget({_mib(self._limit_bytes)}, measured={len(self._measured)})"

    def check(self, view: FleetView, model: str, numbers: frozenset[int], freed: frozenset[int] = frozenset()) -> None:
        """
        Raises ForbiddenNow (rule ``memory``) if the model's versions ``numbers`` do not fit beside what is loaded. Versions
        in ``freed`` are unloaded first, so they do not count.
        """
        self._learn(view)
        keys = [(model, number) for number in sorted(numbers)]
        gone = {(model, number) for number in freed}
        loaded = {key for worker in view.attached.values() for key, one in worker.held.items() if one.state == READY} - gone
        preparing = [
            (name, number)
            for name, plan in self._desired.plans().items()
            if plan.preparing
            for number in sorted(plan.preparing.versions)
        ]
        pending = {key for key in preparing if key not in loaded and key not in keys}
        private_bytes = sum(self._need(key).private_bytes * _lacking(view, key) for key in keys)
        present = weights_of(self._need(key) for key in {*loaded, *pending})
        mapped_bytes = sum(size for name, size in weights_of(map(self._need, keys)).items() if name not in present)
        used_bytes = sum(worker.telemetry.private_bytes for worker in view.attached.values() if worker.telemetry)
        used_bytes += sum(present.values()) + sum(self._need(key).private_bytes * _lacking(view, key) for key in pending)
        used_bytes -= sum(
            worker.held[key].private_bytes for worker in view.attached.values() for key in gone if key in worker.held
        )
        needed_bytes, free_bytes = private_bytes + mapped_bytes, max(self._limit_bytes - used_bytes, 0)
        if needed_bytes > free_bytes:
            raise self._refusal(model, keys, private_bytes, mapped_bytes, free_bytes, is_freed=bool(freed))

    def _refusal(
        self, model: str, keys: list[VersionKey], private_bytes: int, mapped_bytes: int, free_bytes: int, *, is_freed: bool
    ) -> ForbiddenNow:
        names = ", ".join(f"v{number}" for _, number in keys)
        advice = "" if is_freed else f", or unload the old version first (interlock configure {model} --swap-order memory)"
        return ForbiddenNow(
            f"nothing was changed: {model} {names} needs about {_mib(private_bytes + mapped_bytes)} more memory "
            f"({_mib(private_bytes)} private over all workers, {_mib(mapped_bytes)} shared), but of the workers' budget of "
            f"{_mib(self._limit_bytes)} only about {_mib(free_bytes)} are free: raise serve --memory-budget{advice}",
            rule="memory",
            needed_bytes=private_bytes + mapped_bytes,
            available_bytes=free_bytes,
            budget_bytes=self._limit_bytes,
            override="--memory-budget",
            model=model,
        )

    def _learn(self, view: FleetView) -> None:
        with self._lock:
            for worker in view.attached.values():
                for key, one in worker.held.items():
                    if one.private_bytes:
                        self._measured[key] = one.private_bytes

    def _need(self, key: VersionKey) -> Need:
        version = self._desired.version(*key)
        chosen = self._layouts.chosen(version)
        measured = self._measured.get(key)
        if chosen is None or not chosen.path:
            return Need(_guess(version) if measured is None else measured, {})
        # A prepacked weight's file holds the weight twice, unpacked and packed; the unpacked half is not used after the load.
        share = 2 if chosen.layout.mode == PREPACKED else 1
        weights = {file.name: file.size_bytes // share for file in chosen.layout.files if file.name == file.sha256}
        return Need(chosen.layout.private_bytes if measured is None else measured, weights)


def _guess(version: ModelVersion) -> int:
    return int(version.artifact.size_bytes * UNKNOWN_FACTOR)


def _lacking(view: FleetView, key: VersionKey) -> int:
    """Number of workers that have not loaded the version."""
    observed = [worker.held.get(key) for worker in view.attached.values()]
    return sum(one is None or one.state != READY for one in observed)


def _mib(count: float) -> str:
    return f"{count / MIB:.0f} MiB"
