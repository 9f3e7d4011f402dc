"""Loaded versions without a model, for tests of what surrounds them."""

from __future__ import annotations

from typing import Any

from gateway.contract.desired import DesiredVersion
from gateway.versions.loaded import LoadedVersion
from registry.deployment import Batching
from registry.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))
ANY = Batching()


class NoSession:
    signature = SIGNATURE

    def run(self, *_: object) -> list[Any]:
        raise AssertionError("there is no model")

    def close(self) -> None:
        pass


def loaded(model: str = "m", number: int = 1, batching: Batching = ANY, *, is_batchable: bool = True) -> LoadedVersion:
    desired = DesiredVersion(number, f"/{model}/{number}.onnx", "digest", SIGNATURE, None, is_batchable, batching)
    return LoadedVersion(model, desired, NoSession())
