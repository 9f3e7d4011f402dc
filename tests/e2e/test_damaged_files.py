"""A version's file is damaged on disk: what cannot be served is not called done, and once repaired it is served again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start, kill
from tiny import scaler

from gateway.client import AdminClient, Client

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
