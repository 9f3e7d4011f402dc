"""Example requests, registered or seen in live traffic, warm a version up where made-up inputs prove nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from inside import Inside, gateway_inside
from tiny import seven_wide

from gateway.client import AdminClient, Client, RequestRefused

ROWS = np.arange(14, dtype=np.float32).reshape(2, 7)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Inside]:
    with gateway_inside(tmp_path / "home") as inside:
        yield inside


@pytest.fixture
def admin(gateway: Inside) -> Iterator[AdminClient]:
    with AdminClient(gateway.admin) as admin:
        yield admin


def test_a_model_that_no_made_up_input_fits_is_batched_and_warm_with_an_example(
    gateway: Inside, admin: AdminClient, tmp_path: Path
) -> None:
    made = admin.register("seven", seven_wide(tmp_path / "m.onnx", 1.0), examples=[{"x": ROWS}]).result().version
    assert (made.example_count, made.batchable) == (1, True)
    assert made.row_proof == "proved"
    admin.deploy("seven", 1).result()
    served = gateway.loaded("seven", 1)
    assert served.is_batched
    assert served.pace.run_times.longest_s() > 0  # 64 rows were run before anybody asked
    with Client(gateway.data) as client:
        assert client.infer("seven", ROWS)["y"].tolist() == ROWS.sum(axis=1, keepdims=True).tolist()


def test_without_an_example_it_is_neither(gateway: Inside, admin: AdminClient, tmp_path: Path) -> None:
    made = admin.register("seven", seven_wide(tmp_path / "m.onnx", 1.0)).result().version
    assert (made.example_count, made.batchable) == (0, False)
    admin.deploy("seven", 1).result()
    served = gateway.loaded("seven", 1)
    assert (served.pace.is_inline, served.pace.run_times.longest_s()) == (False, 0.0)


def test_the_next_version_is_warmed_up_with_what_callers_sent(gateway: Inside, admin: AdminClient, tmp_path: Path) -> None:
    for number in (1, 2):
        admin.register("seven", seven_wide(tmp_path / f"{number}.onnx", float(number))).result()
    admin.deploy("seven", 1).result()
    with Client(gateway.data) as client:
        for _ in range(2):  # what comes after the first answer is done before the second
            client.infer("seven", ROWS)
        admin.promote("seven", 2).result()
        assert gateway.loaded("seven", 2).pace.run_times.expected_s(1) > 0
        assert client.infer("seven", ROWS).version == "2"


def test_an_example_that_the_model_does_not_run_on_is_named_with_the_reason(admin: AdminClient, tmp_path: Path) -> None:
    path = seven_wide(tmp_path / "m.onnx", 1.0)
    with pytest.raises(RequestRefused, match=r"examples\[1\]: the model does not run on it: .*") as error:
        admin.register("seven", path, examples=[{"x": ROWS}, {"x": ROWS[:, :5]}]).result()
    assert error.value.metadata["field"] == "examples[1]"
    with pytest.raises(RequestRefused, match=r"examples\[0\]: input 'x': expected x: FP32 \[\?, \?\], got FP64 \[2, 7\]"):
        admin.register("seven", path, examples=[{"x": ROWS.astype(np.float64)}]).result()
    assert admin.models() == []


def test_examples_survive_a_restart_of_everything(tmp_path: Path) -> None:
    for attempt in range(2):
        with gateway_inside(tmp_path / "home") as inside, AdminClient(inside.admin) as admin:
            if not attempt:
                admin.register("seven", seven_wide(tmp_path / "m.onnx", 1.0), examples=[{"x": ROWS}]).result()
                admin.deploy("seven", 1).result()
            assert inside.loaded("seven", 1).pace.run_times.longest_s() > 0


def test_an_example_file_that_is_gone_does_not_keep_the_version_from_serving(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with gateway_inside(home) as inside, AdminClient(inside.admin) as admin:
        admin.register("seven", seven_wide(tmp_path / "m.onnx", 1.0), examples=[{"x": ROWS}]).result()
        admin.deploy("seven", 1).result()
    (file,) = home.rglob("examples.msgpack")
    file.unlink()
    with gateway_inside(home) as inside, Client(inside.data) as client:
        assert client.infer("seven", ROWS)["y"].shape == (2, 1)


def test_nothing_that_callers_sent_is_written_anywhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    secret = np.array([[7.25e-31, 1, 2, 3, 4, 5, 6]], np.float32)
    with gateway_inside(home) as inside, AdminClient(inside.admin) as admin, Client(inside.data) as client:
        admin.register("seven", seven_wide(tmp_path / "m.onnx", 1.0)).result()
        admin.deploy("seven", 1).result()
        client.infer("seven", secret)
        admin.status()
    written = [path for path in home.rglob("*") if path.is_file() and secret[0, :2].tobytes() in path.read_bytes()]
    assert (written, json.loads((home / "run" / "desired.json").read_text())["models"][0]["versions"][0]["examples"]) == (
        [],
        "",
    )
