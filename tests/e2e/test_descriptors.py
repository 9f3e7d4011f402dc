"""Descriptors: as many as the system gives; and a process that has used them up goes on with all that needs no new one."""

from __future__ import annotations

import json
import os
import resource
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start, kill
from tiny import scaler

from gateway.client import AdminClient, Client

ROW = np.array([[1.0, 2.0]], np.float32)
WaitFor = Callable[..., object]


def deployed(gateway: Running, folder: Path) -> None:
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(folder / "m.onnx", 1.0)).result()
        admin.deploy("m", 1).result()


def metric(gateway: Running, name: str) -> float:
    with urllib.request.urlopen(f"http://{gateway.http}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0] == name)


def use_up(pid: int) -> tuple[int, int]:
    """Permits the process no descriptor beyond those it has. Returns its limits before."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    in_use = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest_free = next(number for number in range(len(in_use) + 1) if number not in in_use)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    return before


def log_lines(gateway: Running, event: str) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]


def test_control_hears_from_a_worker_that_can_open_nothing(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start(workers=1)
    deployed(gateway, tmp_path)
    with Client(gateway.data) as client:
        client.infer("m", ROW)
        worker = gateway.note()["workers"][0]["pid"]
        before = use_up(worker)
        for _ in range(20):
            client.infer("m", ROW)
        wait_for(lambda: metric(gateway, "interlock_requests_total") == 21, what="21 requests counted")
        assert metric(gateway, "interlock_worker_rss_bytes") > 1e6
        (line,) = wait_for(lambda: log_lines(gateway, "descriptors_used_up"), what="the shortage named")
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    assert "RLIMIT_NOFILE" in str(line["error"])
    assert log_lines(gateway, "upkeep_failed") == []


def test_control_that_could_accept_nobody_accepts_workers_later(start: Start, wait_for: WaitFor) -> None:
    gateway = start(workers=1)
    control, worker = gateway.note()["control_pid"], gateway.note()["workers"][0]["pid"]
    kill(worker)
    wait_for(lambda: log_lines(gateway, "worker_left"), what="the worker's descriptor given back")
    before = use_up(control)
    wait_for(lambda: log_lines(gateway, "worker_not_accepted"), timeout_s=30, what="a worker that was not accepted")
    resource.prlimit(control, resource.RLIMIT_NOFILE, before)
    wait_for(lambda: len(log_lines(gateway, "worker_attached")) == 2, timeout_s=30, what="the worker accepted")


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 512, reason="the hard limit is low")
def test_every_process_may_open_as_many_files_as_the_system_permits(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        gateway = start(workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    note = gateway.note()
    processes = [note["pid"], note["control_pid"], note["workers"][0]["pid"]]
    assert [resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] for pid in processes] == [hard] * 3
