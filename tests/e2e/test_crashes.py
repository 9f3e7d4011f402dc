"""A model that ends the process that runs it: the culprit is known, and the others are served."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start
from tiny import ratio, safe_ratio, scaler

from gateway.client import AdminClient, CallError, Client, RequestRefused, RetryPolicy

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
            codes = _poisoned(gateway, times=2)
            assert client.infer("ratio", GOOD)["y"].tolist() == [3, 2]
        assert (set(others.results), codes) == ({"OK"}, {"INTERNAL": 2})
        print(f"isolated from the start: longest wait of the other model {others.longest_s:.3f} s")
        assert gateway.note()["workers"] == before
        key = 'model="ratio",signal="SIGFPE",version="1"'
        wait_for(lambda: _metric(gateway, "interlock_isolated_deaths_total") == {key: 2.0}, what="the deaths at /metrics")
        admin.configure("ratio", isolation="none").result()
        assert client.infer("ratio", GOOD)["y"].tolist() == [3, 2]
        assert admin.deployment("ratio").isolation == "none"


@pytest.mark.parametrize("workers", [2, 1])
def test_a_model_that_ends_a_worker_is_isolated_and_fails_its_own_calls_only(
    start: Start, tmp_path: Path, wait_for: WaitFor, workers: int
) -> None:
    gateway = _deployed(start(workers=workers), tmp_path)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        retry = ONCE if workers > 1 else RetryPolicy(max_attempts=100, budget_tokens=0)  # nobody else answers meanwhile
        with Others(gateway.data, retry=retry) as others:
            wait_for(lambda: others.results["OK"] > 100, what="calls answered")
            codes = _poisoned(gateway)
        lost = others.results.total() - others.results["OK"]
        print(f"{workers} workers: {lost} other calls failed, longest wait {others.longest_s:.3f} s; poisoned: {dict(codes)}")
        restarts = sum(worker["restarts"] for worker in gateway.note()["workers"])
        assert restarts <= 2
        assert lost <= 8
        assert set(others.results) <= {"OK", "UNAVAILABLE"}
        assert set(codes) <= {"UNAVAILABLE", "INTERNAL", "FAILED_PRECONDITION"}
        assert codes["INTERNAL"] >= 3
        admin.unfence("ratio")
        wait_for(lambda: _answers(client), what="good calls of the crashing model")
        (version,) = next(model.versions for model in admin.status("ratio").models)
        assert version.isolation == "process: it has ended a worker"
        verbs = [record.verb for record in admin.audit("ratio")]
        assert verbs.count("isolate") == 1


def _answers(client: Client) -> bool:
    try:
        return bool(client.infer("ratio", GOOD)["y"].tolist() == [3, 2])
    except CallError:
        return False


def test_isolation_is_remembered_over_a_restart_of_the_gateway(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(workers=1), tmp_path)
    _poison(gateway)
    with AdminClient(gateway.admin) as admin:
        wait_for(lambda: [r.verb for r in admin.audit("ratio") if r.verb == "isolate"], what="the isolation")
    assert gateway.stop() == 0
    again = start(workers=1)
    assert _poison(again) == "INTERNAL"
    assert [worker["restarts"] for worker in again.note()["workers"]] == [0]


def test_a_worker_that_starts_without_control_isolates_what_ended_it(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(workers=1), tmp_path)
    control = gateway.note()["control_pid"]
    os.kill(control, signal.SIGSTOP)  # it is there, and hears and says nothing
    try:
        _poison(gateway)
        wait_for(lambda: _poison(gateway) == "INTERNAL", timeout_s=30, what="the model isolated")
        assert [worker["restarts"] for worker in gateway.note()["workers"]] == [1]
    finally:
        os.kill(control, signal.SIGCONT)


def test_a_shadow_that_ends_a_worker_is_isolated_and_ends_no_other(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start()
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("ratio", safe_ratio(tmp_path / "safe.onnx")).result()
        admin.register("ratio", ratio(tmp_path / "ratio.onnx")).result()
        admin.deploy("ratio", 1).result()
        admin.shadow("ratio", 2).result()
        codes = _poisoned(gateway)
        assert set(codes) <= {"OK", "UNAVAILABLE"}  # the latter where a worker had died of the copy before
        assert sum(worker["restarts"] for worker in gateway.note()["workers"]) <= 2
        wait_for(lambda: not admin.deployment("ratio").HasField("shadow"), what="the shadow out of the route")
        assert client.infer("ratio", GOOD)["y"].tolist() == [3, 2]
        verbs = [record.verb for record in admin.audit("ratio")]
    print(f"as a shadow: {dict(codes)}, {verbs}")
    assert {"isolate", "fence", "shadow"} <= set(verbs)


def test_a_model_whose_example_ends_its_trial_is_refused(start: Start, tmp_path: Path) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin, pytest.raises(RequestRefused, match="SIGFPE"):
        admin.register("ratio", ratio(tmp_path / "ratio.onnx"), examples=[POISON]).result()
    assert [worker["restarts"] for worker in gateway.note()["workers"]] == [0]


def test_a_version_that_goes_on_crashing_is_refused_until_its_fence_ends(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = _deployed(start(workers=1), tmp_path)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.configure("ratio", isolation="process").result()
        for _ in range(3):
            _poison(gateway)
        refusal = wait_for(lambda: _refusal(client), what="the fence")
        assert (refusal.code, refusal.reason, refusal.metadata["version"]) == ("FAILED_PRECONDITION", "FENCED", "1")
        assert refusal.retry_after_s is not None
        assert 0 < refusal.retry_after_s <= 5
        (version,) = next(model.versions for model in admin.status("ratio").models)
        assert version.HasField("fenced_until")
        assert admin.unfence("ratio") == [1]
        wait_for(lambda: _answers(client), what="good calls after unfence")
        assert [record.verb for record in admin.audit("ratio")][:2] == ["unfence", "fence"]
        assert admin.unfence("ratio", 1) == []


def _refusal(client: Client) -> CallError | None:
    try:
        client.infer("ratio", GOOD)
    except CallError as error:
        return error
    return None


def test_a_fence_ends_by_itself(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(workers=1), tmp_path)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.configure("ratio", isolation="process").result()
        for _ in range(3):
            _poison(gateway)
        wait_for(lambda: _refusal(client), what="the fence")
        wait_for(lambda: _answers(client), what="good calls after the fence of 5 s")


def test_a_default_that_goes_on_crashing_is_rolled_back_if_its_deployment_says_so(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin:
        for path in (safe_ratio(tmp_path / "safe.onnx"), ratio(tmp_path / "ratio.onnx")):
            admin.register("ratio", path).result()
        admin.deploy("ratio", 1).result()
        admin.configure("ratio", on_crash="rollback").result()
        admin.promote("ratio", 2).result()
        wait_for(lambda: _poison(gateway) == "OK", timeout_s=60, what="version 1 again")
        assert admin.deployment("ratio").default_version == 1
        last = next(iter(admin.audit("ratio")))
        assert (last.author, last.reason.partition(":")[0]) == ("interlock", "v2 is fenced")


def test_a_candidate_that_goes_on_crashing_is_taken_out_of_the_split(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin:
        for path in (safe_ratio(tmp_path / "safe.onnx"), ratio(tmp_path / "ratio.onnx")):
            admin.register("ratio", path).result()
        admin.deploy("ratio", 1).result()
        admin.split("ratio", {"1": 90, "2": 10}).result()
        admin.configure("ratio", isolation="process").result()
        for _ in range(3):
            _poison(gateway, version="2")
        wait_for(lambda: [s.version for s in admin.deployment("ratio").shares] == [1], what="the candidate out of the split")
