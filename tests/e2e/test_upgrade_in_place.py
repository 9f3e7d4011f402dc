"""New code comes into the folder that a gateway runs from, and its workers are restarted under the old control."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Running, Start
from tiny import scaler

from gateway.client import AdminClient, CallError, Client
from gateway.contract.handshake import PROTOCOL

ROOT = Path(__file__).parents[2]
ROW = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree, which a test may change."""
    copy = tmp_path / "tree"
    for package in ("gateway", "registry"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def _upgrade(tree: Path) -> None:
    handshake = tree / "gateway" / "contract" / "handshake.py"
    before = handshake.read_text()
    after = before.replace(f"\nPROTOCOL = {PROTOCOL}", f"\nPROTOCOL = {PROTOCOL + 1}")
    assert after != before
    handshake.write_text(after)


def _pids(gateway: Running) -> list[int]:
    return [worker["pid"] for worker in gateway.note()["workers"]]


def test_workers_of_new_code_are_refused_and_the_old_ones_serve_on(
    start: Start, tmp_path: Path, tree: Path, wait_for: Callable[..., Any]
) -> None:
    gateway = start(tree=tree)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("m", scaler(tmp_path / "m.onnx", 3.0)).result()
        admin.deploy("m", 1).result()
        before = _pids(gateway)
        _upgrade(tree)
        with pytest.raises(CallError) as error:
            admin.restart_workers().result()
        assert f"control speaks protocol {PROTOCOL}, the worker {PROTOCOL + 1}" in str(error.value)
        assert "Restart the whole gateway" in str(error.value)
        assert _pids(gateway) == before
        assert [worker.state for worker in admin.status().workers] == ["serving"] * 2
        assert client.infer("m", {"x": ROW})["y"].tolist() == [[3.0, 6.0]]
    assert gateway.stop() == 0
    upgraded = start(tree=tree)  # what the error says to do
    with Client(upgraded.data) as client:
        assert client.infer("m", {"x": ROW})["y"].tolist() == [[3.0, 6.0]]
