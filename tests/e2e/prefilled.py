"""A registry filled directly: thousands of versions without as many trial runs."""

from __future__ import annotations

from pathlib import Path

from tiny import scaler

from gateway.clock import SystemClock
from registry.deployment import deployed
from registry.onnx_file import read_model
from registry.registry import Registry, open_registry
from registry.versions import Facts


def fill(home: Path, models: int, *, versions: int = 1, deploy: int = 0, name: str = "m-{:04d}") -> None:
    """
    ``models`` scalers with so many versions each; the factor of model i, version v is 1000 i + v. The first ``deploy`` of
    them are deployed with version 1.
    """
    home.mkdir(parents=True, exist_ok=True)
    registry = open_registry(home, SystemClock())
    try:
        for index in range(models):
            for version in range(1, versions + 1):
                add(registry, home, name.format(index), 1000.0 * index + version)
            if index < deploy:
                registry.commit(deployed(name.format(index), 1, current=None, salt="salt"), expected_revision=0)
    finally:
        registry.close()


def add(registry: Registry, folder: Path, model: str, factor: float, *, alias: str | None = None) -> None:
    """The next version of a model, as a trial run would find it."""
    path = scaler(folder / "next.onnx", factor)
    facts = Facts(read_model(path).signature, None, is_batchable=True, batching_reason="rows are independent")
    registry.register(model, path, facts=facts, alias=alias)
