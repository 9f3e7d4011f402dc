"""Processes of the gateway are killed; callers notice as little as can be, and everything comes back."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start, is_running, kill
from tiny import classifier, scaler, slow

from gateway.client import AdminClient, CallError, Client, Feedback, RetryPolicy, Verdict

ROW = np.array([[1.0, 2.0]], np.float32)
BACK_S = 2.0
KILLS = 6
BUSY_FACTOR = 4.0  # beyond that many starts of a bare worker's modules, the machine is too busy to judge
WaitFor = Callable[..., object]


class Load:
    """Callers that ask without a pause, each on connections of its own; nothing is retried."""

    def __init__(self, address: str, *, callers: int = 4) -> None:
        self.results: Counter[str] = Counter()
        self._address = address
        self._is_ending = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call_on, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> Counter[str]:
        """No further call; returns when those under way have ended."""
        self._is_ending.set()
        for thread in self._threads:
            thread.join(30)
        return self.results

    def _call_on(self) -> None:
        with Client(self._address, retry=RetryPolicy(max_attempts=1)) as client:
            while not self._is_ending.is_set():
                try:
                    answer = client.infer("m", ROW)
                    result = "OK" if float(answer["y"][0, 0]) == float(answer.version) else "WRONG"
                except CallError as error:
                    result = error.code
                with self._lock:
                    self.results[result] += 1


def _deployed(gateway: Running, folder: Path) -> Running:
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(folder / "m.onnx", 1.0)).result()
        admin.deploy("m", 1).result()
    return gateway


def test_a_killed_worker_is_back_within_two_seconds_and_only_its_own_calls_fail(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = _deployed(start(), tmp_path)
    before = gateway.note()
    with Load(gateway.data) as load, AdminClient(gateway.admin) as admin:
        wait_for(lambda: load.results["OK"] > 200, what="calls answered")
        kill(before["workers"][0]["pid"])
        killed_s = time.monotonic()

        def serves_again() -> bool:
            first = admin.status().workers[0]
            return first.state == "serving" and first.pid not in (0, before["workers"][0]["pid"])

        wait_for(serves_again, what="the new worker serving")
        away_s = time.monotonic() - killed_s
        loading_s = _loading_s()
        results = load.end()
    assert away_s < max(BACK_S, BUSY_FACTOR * loading_s)
    assert set(results) <= {"OK", "UNAVAILABLE"}
    assert results["UNAVAILABLE"] <= 8  # of each caller the call in flight, and one more on the connection not yet seen dead
    after = gateway.note()
    assert [worker["restarts"] for worker in after["workers"]] == [1, 0]
    assert after["workers"][1]["pid"] == before["workers"][1]["pid"]


def _loading_s() -> float:
    """How long a new interpreter takes now to load what a worker needs."""
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import gateway.worker.worker, gateway.serving.plane"], check=True)
    return time.monotonic() - began_s


def test_restarts_are_counted_over_a_restart_of_control(start: Start, wait_for: WaitFor) -> None:
    gateway = start()
    with AdminClient(gateway.admin) as admin:

        def restarts() -> list[int]:
            try:
                return [worker.restarts for worker in admin.status().workers if worker.state == "serving"]
            except CallError:
                return []

        for process in (gateway.note()["workers"][1]["pid"], gateway.note()["control_pid"]):
            kill(process)
            wait_for(lambda: restarts() == [0, 1], timeout_s=20, what="one restart of worker 1")


def test_predictions_go_on_without_control_which_returns_as_it_was(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(), tmp_path)
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(tmp_path / "m.onnx", 2.0), alias="next").result()
        admin.split("m", {"1": 50, "2": 50}).result()
        before = admin.deployment("m")
    with Load(gateway.data) as load:
        control = gateway.note()["control_pid"]
        kill(control)
        wait_for(lambda: not is_running(control))
        asked = load.results["OK"]
        wait_for(lambda: load.results["OK"] > asked + 100, what="answers without control")
        wait_for(lambda: _ready(gateway), what="control to be back")
        results = load.end()
    assert set(results) == {"OK"}
    with AdminClient(gateway.admin) as admin:
        assert admin.deployment("m") == before
        assert dict(admin.model("m").aliases) == {"next": 2}
        wait_for(lambda: {worker.state for worker in admin.status().workers} == {"serving"}, what="both workers")
        admin.promote("m", 2).result()


def test_feedback_survives_a_restart_of_control(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start()
    rows = np.eye(3, dtype=np.float32)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("m", classifier(tmp_path / "m.onnx"), prediction=("label", "label")).result()
        admin.deploy("m", 1).result()
        ids = [client.infer("m", rows[[index % 3]]).prediction_id for index in range(60)]
        items = [Feedback(prediction_id=name, label=index % 3) for index, name in enumerate(ids)]
        client.send_feedback(items[:20])
        wait_for(lambda: [row.predictions for row in admin.quality("m").versions] == [60], what="60 recorded")
        kill(gateway.note()["control_pid"])
        wait_for(lambda: _verdicts(client, items[20:]) == {Verdict.JOINED}, timeout_s=20, what="feedback after the restart")
        assert _verdicts(client, items) == {Verdict.DUPLICATE}
    with AdminClient(gateway.admin) as admin:
        (row,) = admin.quality("m").versions
    assert (row.predictions, row.labelled, row.accuracy) == (60, 60, 1.0)


def _verdicts(client: Client, items: list[Feedback]) -> set[Verdict]:
    try:
        return {result.verdict for result in client.send_feedback(items)}
    except CallError:
        return set()


def test_a_stop_under_load_loses_no_call(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start("--drain-delay-s", "0.5"), tmp_path)
    with Load(gateway.data, callers=8) as load:
        wait_for(lambda: load.results["OK"] > 200, what="calls answered")
        gateway.process.send_signal(signal.SIGTERM)
        results = load.end()  # every call that was under way at the signal
    assert set(results) == {"OK"}
    assert gateway.process.wait(20) == 0
    assert not (gateway.home / "run" / "gateway.json").exists()


def test_calls_that_run_long_end_with_their_answer_at_a_stop(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway, long = start(workers=1), np.array([[6000.0, 0.0]], np.float32)
    with AdminClient(gateway.admin) as admin:
        admin.register("slow", slow(tmp_path / "m.onnx")).result()
        admin.deploy("slow", 1).result()
    with ThreadPoolExecutor(3) as pool, Client(gateway.data, retry=RetryPolicy(max_attempts=1)) as client:
        client.infer("slow", ROW)
        calls = [pool.submit(client.infer, "slow", long) for _ in range(3)]
        wait_for(lambda: _in_flight(gateway), what="calls in flight")
        gateway.process.send_signal(signal.SIGTERM)
        assert [call.result()["y"].tolist() for call in calls] == [long.tolist()] * 3
    assert gateway.process.wait(20) == 0


def _in_flight(gateway: Running) -> int:
    page = urllib.request.urlopen(f"http://{gateway.http}/metrics", timeout=10).read().decode()
    found = re.search(r'^interlock_in_flight\{worker="0"\} ([0-9.]+)', page, re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_control_killed_at_any_moment_of_a_swap_leaves_the_old_or_the_new(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = _deployed(start(), tmp_path)
    moments = random.Random(7)
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(tmp_path / "m.onnx", 2.0)).result()
    with Load(gateway.data, callers=2) as load, ThreadPoolExecutor(1) as pool:
        for _ in range(KILLS):
            revision, default = _deployment(gateway)
            swap = pool.submit(_promoted, gateway, 3 - default)
            time.sleep(moments.uniform(0, 0.06))  # the moment of the kill is the input of this test
            kill(gateway.note()["control_pid"])
            was_told = swap.result()
            after = wait_for(lambda: _deployment_or_none(gateway), timeout_s=20, what="control to be back")
            assert after in ([(revision + 1, 3 - default)] if was_told else [(revision, default), (revision + 1, 3 - default)])
            wait_for(lambda: _ready(gateway), timeout_s=20, what="the gateway to be ready")
        results = load.end()
    assert set(results) == {"OK"}


def _promoted(gateway: Running, version: int) -> bool:
    """Whether the caller was told that it is done."""
    try:
        with AdminClient(gateway.admin) as admin:
            admin.promote("m", version).result()
    except CallError:
        return False
    return True


def _deployment(gateway: Running) -> tuple[int, int]:
    with AdminClient(gateway.admin) as admin:
        found = admin.deployment("m")
    return int(found.revision), int(found.default_version)


def _deployment_or_none(gateway: Running) -> tuple[int, int] | None:
    try:
        return _deployment(gateway)
    except CallError:
        return None


def test_children_of_a_killed_supervisor_end_and_its_home_is_free_again(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = _deployed(start(), tmp_path)
    note = gateway.note()
    children = [note["control_pid"], *(worker["pid"] for worker in note["workers"])]
    kill(gateway.process.pid)
    gateway.process.wait()
    again = start()
    assert [pid for pid in children if is_running(pid)] == []
    with Client(again.data) as client:
        assert client.infer("m", ROW).version == "1"


def test_a_second_signal_ends_a_gateway_at_once(start: Start) -> None:
    gateway = start("--drain-delay-s", "30")
    children = [gateway.note()["control_pid"], *(worker["pid"] for worker in gateway.note()["workers"])]
    gateway.process.send_signal(signal.SIGINT)
    with pytest.raises(TimeoutError):
        _wait_gone(gateway.process.pid, 0.5)
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.process.wait(10) == 1
    assert [pid for pid in children if is_running(pid)] == []


def _wait_gone(pid: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while is_running(pid):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def _ready(gateway: Running) -> bool:
    from gateway.process.readiness import problems
    from gateway.settings.address import Address

    return not problems(Address.parse(gateway.http))


def test_the_note_and_the_ready_line_agree(start: Start) -> None:
    gateway = start(workers=1)
    note = gateway.note()
    assert {name: note[name] for name in ("data_address", "admin_address", "http_address", "pid")} == {
        name: gateway.ready[name] for name in ("data_address", "admin_address", "http_address", "pid")
    }
    assert os.path.exists(f"/proc/{note['control_pid']}")
    assert json.dumps(note)
