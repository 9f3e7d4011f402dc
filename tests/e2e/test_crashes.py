"""A model that ends the process that runs it: the culprit is known, and the others are served."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections import Counter
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


class Others:
    """Callers of another model, without a pause. ``longest_s`` is the longest time that one of them had no answer."""

    def __init__(self, address: str, *, callers: int = 4, retry: RetryPolicy = ONCE) -> None:
        self.results: Counter[str] = Counter()
        self.longest_s = 0.0
        self._address, self._retry = address, retry
        self._is_ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call_on, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Others:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ending.set()
        for thread in self._threads:
            thread.join(30)

    def _call_on(self) -> None:
        with Client(self._address, retry=self._retry) as client:
            answered_s = time.monotonic()
            while not self._is_ending.is_set():
                try:
                    client.infer("other", ROW)
                    code, now_s = "OK", time.monotonic()
                    waited_s, answered_s = now_s - answered_s, now_s
                except CallError as error:
                    code, waited_s = error.code, 0.0
                with self._lock:
                    self.results[code] += 1
                    self.longest_s = max(self.longest_s, waited_s)


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


def _poisoned(gateway: Running, times: int = 12, every_s: float = 0.5) -> Counter[str]:
    """What callers of poisoned requests get, one every half second: the pause is the input of these tests."""
    codes: Counter[str] = Counter()
    for _ in range(times):
        codes[_poison(gateway)] += 1
        time.sleep(every_s)
    return codes


def test_an_isolated_model_s_crashes_fail_its_own_calls_only(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(), tmp_path)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.configure("ratio", isolation="process").result()
        before = gateway.note()["workers"]
        with Others(gateway.data) as others:
            codes = _poisoned(gateway, times=4)
            assert client.infer("ratio", GOOD)["y"].tolist() == [3, 2]
        assert (set(others.results), codes) == ({"OK"}, {"INTERNAL": 4})
        print(f"isolated from the start: longest wait of the other model {others.longest_s:.3f} s")
        assert gateway.note()["workers"] == before
        key = 'model="ratio",signal="SIGFPE",version="1"'
        wait_for(lambda: _metric(gateway, "interlock_isolated_deaths_total") == {key: 4.0}, what="the deaths at /metrics")
        admin.configure("ratio", isolation="none").result()
        assert client.infer("ratio", GOOD)["y"].tolist() == [3, 2]
        assert admin.deployment("ratio").isolation == "none"
