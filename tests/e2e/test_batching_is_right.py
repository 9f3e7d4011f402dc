"""Callers of models whose rows influence each other get the answers that they would get alone, under default settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from inside import Inside, gateway_inside

from gateway.client import AdminClient, Client
from gateway.protocol.pb import admin_pb2 as pb

sys.path.append(str(Path(__file__).parent.parent / "runtime" / "proof"))
from mixing_models import (
    MODELS,
    Model,
    clipped_norm,
    detector,
    dynamic_quantization,
    gate_by_maximum,
    nan_guard,
    ok,
    optional_scale,
    simple,
    weight,
)
from onnx import TensorProto

CALLERS, CALLS = 6, 40
Inputs = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with gateway_inside(tmp_path_factory.mktemp("batching") / "home") as inside:
        yield inside


@pytest.fixture
def admin(gateway: Inside) -> Iterator[AdminClient]:
    with AdminClient(gateway.admin) as admin:
        yield admin


def serve(admin: AdminClient, name: str, proto: Model, folder: Path, mode: str = "auto") -> pb.Version:
    path = folder / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    version = admin.register(name, path).result().version
    admin.deploy(name, 1).result()
    # A delay, so that the requests of several callers would meet.
    admin.configure(name, batching=pb.Batching(mode=mode, max_rows=64, queue_delay_us=2000)).result()
    return version


def wrong_answers(address: str, name: str, proto: Model, made: Callable[[np.random.Generator], Inputs]) -> int:
    """Calls of several callers at once whose answers differ from those of ONNX Runtime to the same request alone."""
    session = ort.InferenceSession(proto.SerializeToString())

    def call(caller: int) -> int:
        random = np.random.default_rng(caller)
        wrong = 0
        with Client(address) as client:
            for _ in range(CALLS):
                inputs = made(random)
                expected = session.run(None, inputs)[0]
                answer = client.infer(name, inputs)["y"]
                wrong += answer.shape != expected.shape or not np.allclose(answer, expected, rtol=1e-4, equal_nan=True)
        return wrong

    with ThreadPoolExecutor(CALLERS) as pool:
        return sum(pool.map(call, range(CALLERS)))


def unlike(random: np.random.Generator) -> Inputs:
    """One row, of a magnitude that differs from caller to caller, and now and then not a number."""
    row = random.normal(size=(1, 4)) * 10.0 ** random.integers(-6, 7)
    if random.random() < 0.1:
        row[0, 0] = np.nan
    return {"x": row.astype(np.float32)}


@pytest.mark.parametrize("make", [dynamic_quantization, gate_by_maximum, clipped_norm, nan_guard, detector])
def test_callers_of_models_that_mix_rows_get_their_own_answers(make, gateway, admin, tmp_path):
    version = serve(admin, make.__name__, make(), tmp_path)
    assert not version.batchable
    assert "node culprit" in version.batching_reason
    assert wrong_answers(gateway.data, make.__name__, make(), unlike) == 0


def test_an_optional_input_is_shared_by_those_only_who_send_it(gateway, admin, tmp_path):
    """Half of the callers send a factor of their own, half take the model's."""
    proto = optional_scale(["k", 1], [[3.0]])
    version = serve(admin, "factor", proto, tmp_path)
    assert (version.row_proof, [list(one.names) for one in version.batched_inputs]) == ("proved", [["scale"]])

    def made(random: np.random.Generator) -> Inputs:
        inputs = {"x": random.normal(size=(1, 4)).astype(np.float32)}
        return inputs | {"scale": random.normal(size=(1, 1)).astype(np.float32)} if random.random() < 0.5 else inputs

    assert wrong_answers(gateway.data, "factor", proto, made) == 0


def test_an_optional_input_for_columns_is_never_shared(gateway, admin, tmp_path):
    proto = optional_scale(["k"], [3.0])
    serve(admin, "columns", proto, tmp_path)

    def made(random: np.random.Generator) -> Inputs:
        scale = random.normal(size=random.choice([1, 4])).astype(np.float32)
        return {"x": random.normal(size=(1, 4)).astype(np.float32), "scale": scale}

    assert wrong_answers(gateway.data, "columns", proto, made) == 0


def test_outputs_as_long_as_the_data_say_are_not_split_even_where_batching_is_declared(gateway, admin, tmp_path):
    """Three boxes of one caller and one of another are as many as two each."""
    version = serve(admin, "boxes", detector(), tmp_path, mode="on")
    assert version.row_proof == "impossible"
    assert batching(admin, "boxes").startswith("off: node culprit (NonZero)")

    def made(random: np.random.Generator) -> Inputs:
        return {"x": np.where(random.random((2, 1)) < 0.5, -2e9, random.normal(size=(2, 4))).astype(np.float32)}

    assert wrong_answers(gateway.data, "boxes", detector(), made) == 0


def batching(admin: AdminClient, model: str) -> str:
    return admin.status(model).models[0].versions[0].batching


def doubling() -> Model:
    """Gives every row twice, in two blocks: no batch of it can be split by count."""
    return simple([ok("Concat", "x x", "y", axis=0)], y=(TensorProto.FLOAT, ["m", 4]))


def test_a_batch_that_cannot_be_split_is_the_last_one(gateway, admin, tmp_path, wait_for):
    serve(admin, "doubling", doubling(), tmp_path, mode="on")
    assert batching(admin, "doubling") == "declared"
    one = lambda random: {"x": random.normal(size=(1, 4)).astype(np.float32)}  # noqa: E731
    assert wrong_answers(gateway.data, "doubling", doubling(), one) == 0
    wait_for(lambda: batching(admin, "doubling").startswith("off: an output of shape"))
    assert wrong_answers(gateway.data, "doubling", doubling(), one) == 0
    assert not gateway.loaded("doubling", 1).is_batched
    assert [record.verb for record in admin.audit("doubling")].count("prove_rows") == 1


def test_what_is_declared_is_shown_as_such(admin, tmp_path):
    serve(admin, "mean", MODELS["reduction_ReduceMean"][0], tmp_path, mode="on")
    assert batching(admin, "mean") == "declared"
    admin.configure("mean", batching=pb.Batching(mode="auto")).result()
    assert batching(admin, "mean").startswith("off: node culprit (ReduceMean) mixes rows")


def test_what_is_proved_is_batched(gateway, admin, tmp_path):
    serve(admin, "plain", simple([ok("Mul", "x two", "y")], [weight("two", 2)]), tmp_path)
    assert batching(admin, "plain") == "proved"
    assert gateway.loaded("plain", 1).is_batched
