"""One control with the registry and the workers that tests use with it, and the models that they register."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from control_fakes import FakeWorker
from onnx import TensorProto, helper

from gateway.control.changes.operations import Operation
from gateway.control.control import Control
from registry.examples import Example
from registry.onnx_file import read_model
from registry.prediction import guess_prediction
from registry.versions import Facts, ModelVersion, Prediction


def model_bytes(seed: int = 0, *, columns: int = 4) -> bytes:
    """A small model whose weights depend on ``seed``: [?, columns] numbers to [?, 3] scores."""
    weights = np.random.default_rng(seed).random((columns, 3), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", columns])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def facts_of(path: Path, prediction: Prediction | None = None, examples: Sequence[Example] = ()) -> Facts:
    """What a trial run would find, without running anything."""
    signature = read_model(path).signature
    return Facts(signature, prediction or guess_prediction(signature), is_batchable=True, batching_reason="fake")


class World:
    """A control under test; what is attached to it leaves with `close`."""

    def __init__(self, control: Control) -> None:
        self.control, self.registry, self.home = control, control.registry, control.home.folder
        self.workers: list[FakeWorker] = []
        self._seed = 0

    def register(
        self, model: str = "digits", *, columns: int = 4, alias: str | None = None, classes: tuple[str, ...] = ()
    ) -> ModelVersion:
        """The next version of a model, unlike all before."""
        self._seed += 1
        path = self.home / f"upload-{threading.get_ident()}.onnx"
        path.write_bytes(model_bytes(self._seed, columns=columns))
        facts = facts_of(path)
        if classes:
            facts = facts_of(path, Prediction("scores", facts.prediction.kind, classes))
        return self.registry.register(model, path, facts=facts, alias=alias)

    def worker(self, number: int = 0) -> FakeWorker:
        """Another attached worker."""
        worker = FakeWorker(self.control, number)
        self.workers.append(worker)
        return worker

    def deployed(self, workers: int) -> list[FakeWorker]:
        """So many workers, with version 1 of digits deployed and version 2 registered."""
        attached = [self.worker(number) for number in range(workers)]
        self.register(), self.register()
        self.done(self.control.traffic.deploy("digits", "1"))
        return attached

    def done(self, operation: Operation) -> Operation:
        """The operation when it is done; its error is raised."""
        ended = self.control.operations.wait(operation.name)
        if ended.error is not None:
            raise ended.error
        return ended

    def close(self) -> None:
        """Every worker leaves."""
        for worker in self.workers:
            worker.gate.set()
            worker.leave()
