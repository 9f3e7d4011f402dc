"""A disk without room, or a system that starts no process: what serves goes on serving, and the rest comes back by itself."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start, kill
from tiny import scaler

from gateway.client import AdminClient, CallError, Client

ROW = np.array([[1.0, 2.0]], np.float32)
DISK = "24m"
WaitFor = Callable[..., object]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of its own, of DISK bytes; it is the home of a gateway that `start` starts."""
    folder = tmp_path / "home"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a disk is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes the last byte of the disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return path


def deployed(gateway: Running, folder: Path) -> None:
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(folder / "m.onnx", 1.0)).result()
        admin.deploy("m", 1).result()


def log_lines(gateway: Running, event: str) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]


def test_a_worker_that_dies_while_the_disk_is_full_is_back_and_its_sibling_serves_meanwhile(
    small_disk: Path, start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = start()
    deployed(gateway, tmp_path)
    before = gateway.note()
    filler = fill(small_disk)
    kill(before["workers"][0]["pid"])
    wait_for(lambda: len(log_lines(gateway, "worker_serving")) == 3, timeout_s=60, what="the new worker serving")
    assert gateway.process.poll() is None
    with Client(gateway.data) as client:
        assert [float(client.infer("m", ROW)["y"][0, 0]) for _ in range(20)] == [1.0] * 20
    assert len(log_lines(gateway, "note_not_written")) == 1
    filler.unlink()
    wait_for(lambda: gateway.note()["workers"][0]["restarts"] == 1, timeout_s=20, what="the note of the new worker")


def test_control_that_dies_while_the_disk_is_full_comes_back_when_there_is_room(
    small_disk: Path, start: Start, tmp_path: Path, wait_for: WaitFor
) -> None:
    gateway = start()
    deployed(gateway, tmp_path)
    filler = fill(small_disk)
    kill(gateway.note()["control_pid"])
    wait_for(lambda: log_lines(gateway, "child_died"), timeout_s=30, what="the death of control noticed")
    with Client(gateway.data) as client:
        assert [float(client.infer("m", ROW)["y"][0, 0]) for _ in range(20)] == [1.0] * 20
    filler.unlink()

    def answers() -> bool:
        try:
            with AdminClient(gateway.admin) as admin:
                return [worker.state for worker in admin.status().workers] == ["serving", "serving"]
        except CallError:
            return False

    wait_for(lambda: gateway.process.poll() is None and answers(), timeout_s=60, what="control with both workers")


def test_a_process_that_cannot_be_started_is_started_later(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = start()
    deployed(gateway, tmp_path)
    supervisor, first = gateway.process.pid, gateway.note()["workers"][0]["pid"]
    limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    in_use = len(os.listdir(f"/proc/{supervisor}/fd"))
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (in_use, limits[1]))
    kill(first)
    wait_for(lambda: log_lines(gateway, "child_not_started"), timeout_s=20, what="a start that failed")
    with Client(gateway.data) as client:
        assert float(client.infer("m", ROW)["y"][0, 0]) == 1.0
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: gateway.note()["workers"][0]["pid"] not in (first, None), timeout_s=30, what="the worker started again")
