"""Versions are swapped back and forth under load, some to one that cannot be loaded: callers never notice."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start
from tiny import one_row_only, scaler

from gateway.client import AdminClient, CallError, Client, RetryPolicy
from gateway.protocol.messages import admin as messages

ROUNDS = 100
BROKEN_EVERY = 10
CALLERS = 6
ROW = np.array([[1.0, 2.0]], np.float32)


def _break_artifact(gateway: Running, digest: str, keep: float = 0.0) -> None:
    """A stored model is overwritten with as many zeros, or cut: it was admitted and cannot be loaded any more."""
    (file,) = (path for path in (gateway.home / "artifacts").rglob("*.onnx") if digest in str(path))
    file.chmod(0o600)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)] if keep else bytes(len(content)))


@pytest.mark.slow
def test_a_hundred_promotes_and_rollbacks_lose_nothing_and_mistake_nobody(start: Start, tmp_path: Path) -> None:
    gateway = start(workers=2)
    stop, seen = threading.Event(), Counter[str]()

    def call() -> Counter[str]:
        found: Counter[str] = Counter()
        with Client(gateway.data, retry=RetryPolicy(max_attempts=1)) as client:
            while not stop.is_set():
                answer = client.infer("m", ROW)
                is_right = np.array_equal(answer["y"], ROW * float(answer.version))
                found[str(answer.version) if is_right else "wrong"] += 1
        return found

    with AdminClient(gateway.admin) as admin, ThreadPoolExecutor(CALLERS) as pool:
        for factor in (1.0, 2.0):
            admin.register("m", scaler(tmp_path / f"{factor}.onnx", factor)).result()
        admin.register("m", one_row_only(tmp_path / "3.onnx", 3.0)).result()
        admin.deploy("m", 1).result()
        admin.configure("m", batching=messages.Batching(mode="on")).result()  # which v3 cannot do, as its warm-up shows
        callers = [pool.submit(call) for _ in range(CALLERS)]
        try:
            for index in range(ROUNDS):
                if index % BROKEN_EVERY == 0:
                    with pytest.raises(CallError, match="m v3: warm-up with 2 rows failed"):
                        admin.promote("m", 3).result()
                    assert admin.deployment("m").default_version == 1
                assert admin.promote("m", 2).result().deployment.default_version == 2
                assert admin.rollback("m").result().deployment.default_version == 1
        finally:
            stop.set()
        for caller in callers:
            seen += caller.result()
    assert seen["wrong"] == 0
    assert set(seen) == {"1", "2"}


@pytest.mark.parametrize(("keep", "text"), [(0.0, "does not match its SHA-256"), (0.5, "bytes, expected")])
def test_a_version_whose_artifact_is_damaged_says_so_and_changes_nothing(
    start: Start, tmp_path: Path, keep: float, text: str
) -> None:
    gateway = start(workers=2)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("m", scaler(tmp_path / "1.onnx", 1.0)).result()
        admin.deploy("m", 1).result()
        version = admin.register("m", scaler(tmp_path / "2.onnx", 2.0)).result().version
        _break_artifact(gateway, version.digest, keep)
        before = admin.deployment("m")
        for change in (admin.promote, admin.deploy):
            with pytest.raises(CallError, match=text) as error:
                change("m", 2).result()
            assert error.value.code == "DATA_LOSS"
        assert admin.deployment("m") == before
        assert client.infer("m", ROW).version == "1"
