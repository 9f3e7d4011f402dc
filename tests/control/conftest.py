"""A real control on a fresh home, with workers that speak the real link protocol and load what is no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from control_fakes import FakeLog, FakeWorker
from onnx import TensorProto, helper

from gateway.clock import SystemClock
from gateway.control.config import ControlConfig
from gateway.control.control import Control
from gateway.control.operations import Operation
from gateway.telemetry.aggregate import Aggregate
from registry.onnx_file import read_model
from registry.prediction import guess_prediction
from registry.registry import Registry, open_registry
from registry.versions import Facts, ModelVersion


def model_bytes(seed: int = 0, *, columns: int = 4, input_name: str = "x") -> bytes:
    """A small model whose weights depend on ``seed``: [?, columns] numbers to [?, 3] scores."""
    weights = np.random.default_rng(seed).random((columns, 3), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [input_name, "w"], ["scores"])],
        "g",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", columns])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def facts_of(path: Path, prediction: object = None) -> Facts:
    """What a trial run would find, without running anything."""
    signature = read_model(path).signature
    return Facts(signature, prediction or guess_prediction(signature), is_batchable=True, batching_reason="fake")


@dataclass
class World:
    """One control with what it works on; `start_control` can be called again for a restart."""

    home: Path
    registry: Registry
    control: Control
    log: FakeLog
    workers: list[FakeWorker] = field(default_factory=list)

    def register(self, model: str = "digits", seed: int | None = None, **kwargs: object) -> ModelVersion:
        """The next version of a model."""
        alias = kwargs.pop("alias", None)
        path = self.home / f"upload-{threading.get_ident()}.onnx"
        path.write_bytes(model_bytes(seed if seed is not None else len(list(self.home.iterdir())), **kwargs))
        return self.registry.register(model, path, facts=facts_of(path), alias=alias)

    def worker(self, number: int = 0) -> FakeWorker:
        """Another attached worker."""
        worker = FakeWorker(self.control, number)
        self.workers.append(worker)
        return worker

    def done(self, operation: Operation) -> Operation:
        """The operation when it is done; its error is raised."""
        ended = self.control.operations.wait(operation.name)
        if ended.error is not None:
            raise ended.error
        return ended


@pytest.fixture
def start_control(tmp_path: Path) -> Iterator[Callable[..., Control]]:
    """``start_control(**config)``: a control on the test's home, stopped at the end."""
    started: list[Control] = []
    registries: list[Registry] = []

    def start(*, clock: object = None, log: FakeLog | None = None, **config: object) -> Control:
        clock = clock or SystemClock()
        registry = open_registry(tmp_path, clock)
        registries.append(registry)
        settings = {"attach_timeout_s": 0.2, "prepare_timeout_s": 20.0, "acknowledge_timeout_s": 10.0} | config
        control = Control(
            ControlConfig(tmp_path, **settings),
            registry=registry,
            prediction_log=log or FakeLog(),
            counts=Aggregate(),
            clock=clock,
            trial=facts_of,
        )
        control.start()
        started.append(control)
        return control

    yield start
    for control in started:
        control.stop()
    for registry in registries:
        registry.close()


@pytest.fixture
def world(start_control: Callable[..., Control], tmp_path: Path) -> Iterator[World]:
    """A control that expects two workers; none is attached yet."""
    log = FakeLog()
    control = start_control(workers=2, log=log)
    made = World(tmp_path, control.registry, control, log)
    yield made
    for worker in made.workers:
        worker.leave()
