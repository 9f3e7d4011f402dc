"""
Whether a change fits into the memory that the workers may take together, before anything loads.

Estimates: what a version took where it is or was loaded, else what was measured when its serving layout was made, else its
size times a factor. Private memory counts in every worker, mapped weights once for all, also among versions that share them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.control.catalog.layout_store import Layouts
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.fleet.progress import FleetView
from gateway.errors import ForbiddenNow
from gateway.runtime.layout_choice import PREPACKED
from registry.versions import ModelVersion

MIB = 1024**2
UNKNOWN_FACTOR = 2.5  # a model that holds its weights, and a copy of them packed for speed
RESERVE_SHARE, LEAST_RESERVE_BYTES = 0.10, 256 * MIB  # of the machine's memory, for control and for what else runs there
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Need:
    """
    What a version takes when it is loaded: ``private_bytes`` in each worker, and weights by the name of their file, mapped
    once for all. What is measured is private memory; which weights there are is in the layout's note.
    """

    private_bytes: int
    weights: Mapping[str, int]


def limit_of(budget_bytes: int, machine_bytes: int) -> int:
    """The budget: as set, or for 0 what the machine or control group has without the reserve."""
    return budget_bytes or machine_bytes - max(int(machine_bytes * RESERVE_SHARE), LEAST_RESERVE_BYTES)


def weights_of(needs: Iterable[Need]) -> dict[str, int]:
    """The weights of all, each file once."""
    return {name: size for need in needs for name, size in need.weights.items()}


class MemoryBudget:
    """Thread-safe. ``limit_bytes`` is for all workers together, with what they take without any model."""

    def __init__(self, limit_bytes: int, desired: DesiredStateStore, layouts: Layouts) -> None:
        self._limit_bytes, self._desired, self._layouts = limit_bytes, desired, layouts
        self._lock = threading.Lock()
        self._seen: dict[Key, int] = {}  # private bytes of versions that are or were loaded

    def check(self, view: FleetView, model: str, numbers: frozenset[int], freed: frozenset[int] = frozenset()) -> None:
        """
        Raises ForbiddenNow (rule ``memory``) when the versions of the model do not fit beside what is loaded; ``freed`` ones
        are gone by then.
        """
        self._learn(view)
        keys = [(model, number) for number in sorted(numbers)]
        gone = {(model, number) for number in freed}
        loaded = {key for worker in view.attached.values() for key, one in worker.held.items() if one.state == "READY"} - gone
        coming = [
            key
            for name, plan in self._desired.plans().items()
            if plan.preparing
            for key in _named(name, plan.preparing.versions)
        ]
        pending = {key for key in coming if key not in loaded and key not in keys}
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
        self, model: str, keys: list[Key], private_bytes: int, mapped_bytes: int, free_bytes: int, *, is_freed: bool
    ) -> ForbiddenNow:
        names = ", ".join(f"v{number}" for _, number in keys)
        advice = "" if is_freed else f", or free the old version first (interlock configure {model} --swap-order memory)"
        return ForbiddenNow(
            f"nothing was changed: {model} {names} needs about {_mib(private_bytes + mapped_bytes)} more memory "
            f"({_mib(private_bytes)} private over all workers, {_mib(mapped_bytes)} shared), and of the workers' budget of "
            f"{_mib(self._limit_bytes)} about {_mib(free_bytes)} are free: raise serve --memory-budget{advice}",
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
                        self._seen[key] = one.private_bytes

    def _need(self, key: Key) -> Need:
        version = self._desired.version(*key)
        chosen = self._layouts.chosen(version)
        seen = self._seen.get(key)
        if chosen is None or not chosen.path:
            return Need(_unknown(version) if seen is None else seen, {})
        # Of a prepacked weight, the half that was packed is read while it loads and not again.
        share = 2 if chosen.layout.mode == PREPACKED else 1
        weights = {file.name: file.size_bytes // share for file in chosen.layout.files if file.name == file.sha256}
        return Need(chosen.layout.private_bytes if seen is None else seen, weights)


def _unknown(version: ModelVersion) -> int:
    return int(version.artifact.size_bytes * UNKNOWN_FACTOR)


def _named(model: str, numbers: frozenset[int]) -> list[Key]:
    return [(model, number) for number in sorted(numbers)]


def _lacking(view: FleetView, key: Key) -> int:
    """How many workers have not loaded it."""
    held = [worker.held.get(key) for worker in view.attached.values()]
    return sum(one is None or one.state != "READY" for one in held)


def _mib(count: float) -> str:
    return f"{count / MIB:.0f} MiB"
