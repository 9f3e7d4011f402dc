"""Workers are replaced under load by clients on many connections, and nobody notices."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Running, Start, is_running, kill
from tiny import scaler

from gateway.client import AdminClient, CallError, Client, RetryPolicy

ROW = np.array([[1.0, 2.0]], np.float32)
WaitFor = Callable[..., Any]


class Callers:
    """Clients in threads, some on one connection for good, some on a new one every few calls; nothing is retried."""

    def __init__(self, address: str, *, steady: int = 4, restless: int = 2) -> None:
        self.results: Counter[str] = Counter()
        self._address, self._is_ending, self._lock = address, threading.Event(), threading.Lock()
        calls_each = [1_000_000] * steady + [5] * restless
        self._threads = [threading.Thread(target=self._call_on, args=(calls,), daemon=True) for calls in calls_each]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> Counter[str]:
        self._is_ending.set()
        for thread in self._threads:
            thread.join(30)
        return self.results

    def _call_on(self, calls: int) -> None:
        while not self._is_ending.is_set():
            with Client(self._address, channels=1, retry=RetryPolicy(max_attempts=1)) as client:
                for _ in range(calls):
                    if self._is_ending.is_set():
                        return
                    self._call(client)

    def _call(self, client: Client) -> None:
        try:
            answer = client.infer("m", {"x": ROW})
            result = "OK" if float(answer["y"][0, 0]) == float(answer.version) else "WRONG"
        except CallError as error:
            result = f"{error.code}: {error}"
        with self._lock:
            self.results[result] += 1


def _deployed(gateway: Running, folder: Path) -> Running:
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(folder / "m.onnx", 1.0)).result()
        admin.deploy("m", 1).result()
    return gateway


def _pids(gateway: Running) -> list[int]:
    return [worker["pid"] for worker in gateway.note()["workers"]]


def _requests(admin: AdminClient) -> int:
    return sum(version.requests for version in admin.status().models[0].versions)


@pytest.mark.parametrize(("workers", "rounds"), [(2, 2), (1, 1)])
def test_a_rolling_restart_under_load_fails_no_request_and_loses_no_count(
    start: Start, tmp_path: Path, wait_for: WaitFor, workers: int, rounds: int
) -> None:
    gateway = _deployed(start("--drain-delay-s", "0.5", workers=workers), tmp_path)
    pids = [_pids(gateway)]
    with Callers(gateway.data) as callers, AdminClient(gateway.admin) as admin:
        wait_for(lambda: callers.results["OK"] > 100, what="calls answered")
        for _ in range(rounds):
            done = admin.restart_workers().result()
            assert (list(done.workers), list(done.missing)) == (list(range(workers)), [])
            pids.append(_pids(gateway))
        results = callers.end()
        assert set(results) == {"OK"}
        assert _requests(admin) == results["OK"]
        status = admin.status().workers
    assert len({pid for each in pids for pid in each}) == workers * (rounds + 1)
    assert [(w.worker, w.state, w.replacements, w.restarts) for w in status] == [
        (number, "serving", rounds, 0) for number in range(workers)
    ]
    assert sum(w.requests for w in status) == results["OK"]
    assert [pid for each in pids[:-1] for pid in each if is_running(pid)] == []


def test_a_signal_restarts_too_and_a_worker_that_dies_meanwhile_is_started_again(
    start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = _deployed(start(), tmp_path)
    before = _pids(gateway)
    gateway.process.send_signal(signal.SIGHUP)
    with AdminClient(gateway.admin) as admin:
        restart = wait_for(lambda: [each for each in admin.operations() if each.verb == "restart"], what="the operation")[0]
        kill(before[1])
        done = admin.watch(restart.name).result()
        assert (list(done.workers), done.steps[0].detail) == ([0, 1], "by a signal to the gateway")
        wait_for(lambda: [w.state for w in admin.status().workers] == ["serving"] * 2)
        assert [worker["restarts"] for worker in gateway.note()["workers"]] == [0, 1]


def test_only_one_restart_at_a_time(start: Start, tmp_path: Path) -> None:
    gateway = _deployed(start(), tmp_path)
    with AdminClient(gateway.admin) as admin:
        first = admin.restart_workers(request_id="nightly")
        begun = next(iter(first))
        with pytest.raises(CallError, match=f"{begun.name} is restarting the workers already") as error:
            admin.restart_workers().result()
        assert (error.value.code, error.value.metadata["operation"]) == ("FAILED_PRECONDITION", begun.name)
        assert admin.restart_workers(request_id="nightly").result().name == begun.name
        assert list(admin.operation(begun.name).workers) == [0, 1]


def test_a_replacement_that_does_not_come_up_leaves_the_old_one_serving(start: Start, tmp_path: Path) -> None:
    gateway = _deployed(start(), tmp_path)
    (file,) = (gateway.home / "artifacts").rglob("*.onnx")
    file.chmod(0o600)
    file.write_bytes(bytes(file.stat().st_size))
    before = _pids(gateway)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        with pytest.raises(CallError, match=r"worker 0 serves on .* m v1 is FAILED") as error:
            admin.restart_workers().result()
        assert error.value.code == "FAILED_PRECONDITION"
        assert _pids(gateway) == before
        assert client.infer("m", ROW).version == "1"


def test_a_stop_during_a_restart_stops_everything(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(), tmp_path)
    with AdminClient(gateway.admin) as admin:
        operation = next(iter(admin.restart_workers()))
        step = wait_for(lambda: [s for s in admin.operation(operation.name).steps if s.name == "starting"])[0]
        replacement = int(step.detail.partition("pid ")[2].partition(",")[0])
        assert is_running(replacement)
        assert gateway.stop() == 0
    assert not is_running(replacement)


def test_one_process_for_all_cannot_be_restarted(start: Start) -> None:
    gateway = start(workers=0)
    with AdminClient(gateway.admin) as admin, pytest.raises(CallError, match="--workers 0") as error:
        admin.restart_workers().result()
    assert error.value.code == "FAILED_PRECONDITION"
    gateway.process.send_signal(signal.SIGHUP)  # nothing to restart, and no reason to die
    with AdminClient(gateway.admin) as admin:
        assert admin.status().workers[0].state == "serving"


def test_the_command_tells_what_was_replaced(start: Start, tmp_path: Path) -> None:
    gateway = _deployed(start(workers=1), tmp_path)
    command = [sys.executable, "-m", "gateway", "restart", "--json", "--reason", "new glibc", "--admin", gateway.admin]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout)
    assert (told["workers"], told["done"]) == ([0], True)
    assert [step["name"] for step in told["operation"]["steps"]] == ["asked", "starting", "leaving", "replaced"]
    assert "new glibc" in told["operation"]["steps"][0]["detail"]
    late = subprocess.run([*command, "--timeout", "0.3s"], capture_output=True, text=True, timeout=60, check=False)
    assert (late.returncode, json.loads(late.stdout)["error"]["code"]) == (1, "DEADLINE_EXCEEDED")
    assert "goes on" in late.stderr


def test_the_command_need_not_wait(start: Start, tmp_path: Path) -> None:
    gateway = _deployed(start(workers=1), tmp_path)
    command = [sys.executable, "-m", "gateway", "restart", "--json", "--no-wait", "--admin", gateway.admin]
    begun = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(begun.stdout)["done"] is False


AT_A_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"


def test_a_closed_terminal_stops_the_gateway(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "gateway", "serve", "--home", str(home), "--workers", "1", "--drain-delay-s", "0"]
    command += [f"--{name}-address=127.0.0.1:0" for name in ("data", "admin", "http")]
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, *command], stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    said = b""
    try:
        while b"ready:" not in said:
            said += os.read(terminal, 4096)
        os.close(terminal)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert not (home / "run" / "gateway.json").exists()
