"""A model that ends the process that runs it: the culprit is known, and the others are served."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
from running import Running, Start
from tiny import ratio, scaler

from gateway.client import AdminClient, CallError, Client, RetryPolicy

GOOD = {"a": np.array([6, 8], np.int32), "b": np.array([2, 4], np.int32)}
POISON = {"a": np.array([-(2**31)], np.int32), "b": np.array([-1], np.int32)}
ROW = np.array([[1.0, 2.0]], np.float32)
ONCE = RetryPolicy(max_attempts=1)
WaitFor = Callable[..., object]


def _deployed(gateway: Running, folder: Path) -> Running:
    with AdminClient(gateway.admin) as admin:
        admin.register("ratio", ratio(folder / "ratio.onnx")).result()
        admin.register("other", scaler(folder / "other.onnx", 1.0)).result()
        admin.deploy("ratio", 1).result()
        admin.deploy("other", 1).result()
    return gateway


def _poison(gateway: Running, request_id: str = "", version: str = "") -> str:
    """The code that the caller of one poisoned request gets, on a connection of its own."""
    with Client(gateway.data, retry=ONCE) as client:
        try:
            client.infer("ratio", POISON, request_id=request_id, version=version, timeout_s=10)
        except CallError as error:
            return error.code
    return "OK"


def _metric(gateway: Running, name: str) -> dict[str, float]:
    page = urllib.request.urlopen(f"http://{gateway.http}/metrics", timeout=10).read().decode()
    return {labels: float(value) for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", page, re.MULTILINE)}


def test_the_version_and_the_request_that_ended_a_worker_are_known(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(), tmp_path)
    assert _poison(gateway, "order-17") == "UNAVAILABLE"
    wait_for(lambda: _metric(gateway, "interlock_worker_deaths_total"), what="the death at /metrics")
    assert _metric(gateway, "interlock_worker_deaths_total") == {'model="ratio",signal="SIGFPE",version="1"': 1.0}
    assert "1 request of ratio v1 (order-17)" in gateway.log.read_text()
    with AdminClient(gateway.admin) as admin:
        status = admin.status()
    assert [worker.last_death for worker in status.workers if worker.last_death] == ["SIGFPE, 1 request of ratio v1 (order-17)"]
    assert {model.model: [version.deaths for version in model.versions] for model in status.models} == {
        "ratio": [1],
        "other": [0],
    }
