"""A version's file is damaged on disk: what cannot be served is not called done, and once repaired it is served again."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start, kill
from tiny import scaler

from gateway.client import AdminClient, CallError, Client, RetryPolicy

ROW = np.array([[1.0, 2.0]], np.float32)
WaitFor = Callable[..., object]


def command(gateway: Running, *words: str) -> subprocess.CompletedProcess[str]:
    """An `interlock` command, ended."""
    environment = {**os.environ, "INTERLOCK_ADMIN": gateway.admin, "COLUMNS": "400"}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def replace_file(path: Path, content: bytes) -> None:
    """Puts another file in the place of a read-only one."""
    aside = path.with_name("aside")
    aside.write_bytes(content)
    aside.replace(path)


def states(gateway: Running, model: str = "m") -> set[str]:
    with AdminClient(gateway.admin) as admin:
        return {version.state for one in admin.status().models if one.model == model for version in one.versions}


def flip_a_weight(file: Path) -> None:
    """Changes the constant 3.0 to another number; the file remains a model that can be loaded."""
    sound = file.read_bytes()
    three = np.float32(3.0).tobytes()
    assert sound.count(three) == 1
    replace_file(file, sound.replace(three, np.float32(7.0).tobytes()))


def reason(gateway: Running) -> str:
    with AdminClient(gateway.admin) as admin:
        (model,) = (one for one in admin.status().models if one.model == "m")
        return model.versions[0].reason


@pytest.mark.parametrize("way", ["a start", "a start of the worker", "a rolling restart"])
def test_a_flipped_weight_is_never_loaded(start: Start, tmp_path: Path, wait_for: WaitFor, way: str) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(tmp_path / "m.onnx", 3.0)).result()
        admin.deploy("m", 1).result()
    (file,) = (gateway.home / "artifacts").glob("*/files/*.onnx")
    if way == "a start":
        gateway.stop()
        flip_a_weight(file)
        gateway = start("--ready-models", "none", workers=1)
    else:
        flip_a_weight(file)
    if way == "a rolling restart":
        refused = command(gateway, "restart")
        assert (refused.returncode, "its files are damaged" in refused.stderr) == (1, True), refused
        with Client(gateway.data) as client:
            assert client.infer("m", ROW)["y"].tolist() == [[3.0, 6.0]]  # what is in memory serves on
        return
    if way == "a start of the worker":
        kill(gateway.note()["workers"][0]["pid"])
    wait_for(lambda: states(gateway) == {"FAILED"}, 30)
    assert "its files are damaged: artifact" in reason(gateway)
    with Client(gateway.data, retry=RetryPolicy(max_attempts=1)) as client, pytest.raises(CallError):
        client.infer("m", ROW)


def ready(gateway: Running, query: str = "") -> tuple[int, dict[str, object]]:
    """Status and body of /health/ready."""
    connection = http.client.HTTPConnection(gateway.http, timeout=10)
    try:
        connection.request("GET", f"/health/ready{query}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def one_of_two_failed(gateway: Running, folder: Path, wait_for: WaitFor) -> None:
    """Models sound and bad are deployed, and bad is FAILED in the only worker."""
    with AdminClient(gateway.admin) as admin:
        for name in ("bad", "sound"):
            admin.register(name, scaler(folder / f"{name}.onnx", 3.0 + len(name))).result()
            admin.deploy(name, 1).result()
    (file,) = (gateway.home / "artifacts").glob("*/files/bad.onnx")
    replace_file(file, b"\0" * file.stat().st_size)
    kill(gateway.note()["workers"][0]["pid"])
    wait_for(lambda: (states(gateway, "bad"), states(gateway, "sound")) == ({"FAILED"}, {"READY"}), 30)


def test_a_failed_model_keeps_neither_readiness_nor_a_restart_from_the_others(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = start(workers=1)
    one_of_two_failed(gateway, tmp_path, wait_for)
    before = gateway.note()["workers"][0]["pid"]
    _, body = wait_for(lambda: (found := ready(gateway))[0] == 200 and found, 10)
    assert [(one["model"], one["state"]) for one in body["not_ready"]] == [("bad", "FAILED")]
    assert [ready(gateway, f"?model={name}")[0] for name in ("sound", "bad", "unknown", "all")] == [200, 503, 503, 503]
    restarted = command(gateway, "restart")
    assert restarted.returncode == 0, restarted
    assert gateway.note()["workers"][0]["pid"] != before
    with Client(gateway.data) as client:
        assert client.infer("sound", ROW)["y"].tolist() == [[8.0, 16.0]]


def test_a_restart_ends_before_a_model_that_serves_is_lost(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start(workers=1)
    one_of_two_failed(gateway, tmp_path, wait_for)
    (file,) = (gateway.home / "artifacts").glob("*/files/sound.onnx")
    replace_file(file, b"\0" * file.stat().st_size)
    restarted = command(gateway, "restart")
    assert restarted.returncode == 1
    assert "sound v1 is FAILED" in restarted.stderr
    assert "bad" not in restarted.stderr
    with Client(gateway.data) as client:
        assert client.infer("sound", ROW)["y"].tolist() == [[8.0, 16.0]]


def test_which_models_must_be_ready_is_a_setting(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start("--ready-models", "all", workers=1)
    one_of_two_failed(gateway, tmp_path, wait_for)
    status, body = ready(gateway)
    assert (status, body["status"]) == (503, "not ready")


@pytest.mark.parametrize(
    "words", [("deploy", "m", "1"), ("split", "m", "1=100"), ("configure", "m", "--rollback-window", "9s")], ids=lambda w: w[0]
)
def test_a_command_fails_while_a_worker_cannot_load_and_succeeds_once_repaired(
    start: Start, tmp_path: Path, wait_for: WaitFor, words: tuple[str, ...]
) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(tmp_path / "m.onnx", 3.0)).result()
        admin.deploy("m", 1).result()
    (file,) = (gateway.home / "artifacts").glob("*/files/*.onnx")
    sound = file.read_bytes()
    replace_file(file, b"\0" * len(sound))
    kill(gateway.note()["workers"][0]["pid"])
    wait_for(lambda: states(gateway) == {"FAILED"}, 30)
    refused = command(gateway, *words)
    assert refused.returncode == 1, refused
    assert "does not match its SHA-256" in refused.stderr
    replace_file(file, sound)
    assert command(gateway, *words).returncode == 0
    with Client(gateway.data) as client:
        assert client.infer("m", ROW)["y"].tolist() == [[3.0, 6.0]]
