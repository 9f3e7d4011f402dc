"""Connections come to an end by age without a lost call, and the client's reach every worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running import Running, Start
from tiny import scaler, slow

from gateway.client import AdminClient, Client, RetryPolicy
from gateway.protocol.messages import inference
from gateway.protocol.services import INFERENCE, INFERENCE_NAME, WORKER_KEY, Stub

ROW = np.array([[1.0, 2.0]], np.float32)
CALLERS = 4
WaitFor = Callable[..., Any]


def _deployed(gateway: Running, model: Path) -> Running:
    with AdminClient(gateway.admin) as admin:
        admin.register("m", model).result()
        admin.deploy("m", 1).result()
    return gateway


def _own_ports(port: int) -> set[int]:
    """Local ports of this machine's open connections to ``port``."""
    tables = [Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    pairs = [(int(row[1].rpartition(":")[2], 16), int(row[2].rpartition(":")[2], 16)) for row in rows if row[3] == "01"]
    return {own for own, other in pairs if other == port}


def test_connections_that_end_by_age_lose_no_call(
    start: Start, tmp_path: Path, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_MAX_CONNECTION_AGE_S", "0.5")
    gateway = _deployed(start(), scaler(tmp_path / "m.onnx", 1.0))
    port, seen = int(gateway.data.rpartition(":")[2]), set[int]()
    is_ending = False

    def call_on() -> int:
        with Client(gateway.data, channels=1, retry=RetryPolicy(max_attempts=1)) as client:
            count = 0
            while not is_ending:
                assert client.infer("m", {"x": ROW})["y"].tolist() == ROW.tolist()
                count += 1
        return count

    def has_renewed_all() -> bool:
        seen.update(_own_ports(port))
        return len(seen) >= 5 * CALLERS

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call_on) for _ in range(CALLERS)]
        try:
            wait_for(has_renewed_all, timeout_s=30, what="connections made anew")
        finally:
            is_ending = True
        answered = sum(caller.result() for caller in callers)
    with AdminClient(gateway.admin) as admin:
        assert sum(worker.requests for worker in admin.status().workers) == answered


def test_a_call_longer_than_its_connections_age_gets_its_answer(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_MAX_CONNECTION_AGE_S", "0.3")
    gateway = _deployed(start(workers=1), slow(tmp_path / "m.onnx"))
    with Client(gateway.data, channels=1, retry=RetryPolicy(max_attempts=1)) as client:
        rounds, took_s = 2000.0, 0.0
        while took_s < 1.0:
            began_s = time.monotonic()
            long = np.array([[rounds, 0.0]], np.float32)
            assert client.infer("m", {"x": long})["y"].tolist() == long.tolist()
            took_s, rounds = time.monotonic() - began_s, rounds * 2


def _requests(gateway: Running) -> list[int]:
    with AdminClient(gateway.admin) as admin:
        return [worker.requests for worker in admin.status().workers]


def test_one_client_uses_every_worker_evenly(start: Start, tmp_path: Path, wait_for: WaitFor) -> None:
    gateway = _deployed(start(workers=3), scaler(tmp_path / "m.onnx", 1.0))
    with Client(gateway.data) as client:

        def shares() -> list[int]:
            before = _requests(gateway)
            for _ in range(30):
                client.infer("m", {"x": ROW})
            return [after - count for count, after in zip(before, _requests(gateway), strict=True)]

        wait_for(lambda: shares() == [10, 10, 10], timeout_s=60, what="even use")
        with AdminClient(gateway.admin) as admin:
            assert [worker.connections for worker in admin.status().workers] == [1, 1, 1]


def test_workers_say_who_they_are_but_not_on_predictions(start: Start, tmp_path: Path) -> None:
    gateway = _deployed(start(workers=1), scaler(tmp_path / "m.onnx", 1.0))
    with grpc.insecure_channel(gateway.data) as channel:
        stub = Stub(channel, INFERENCE, name=INFERENCE_NAME)
        for rpc, request in (
            (stub.ServerReady, inference.ServerReadyRequest()),
            (stub.ServerMetadata, inference.ServerMetadataRequest()),
        ):
            _, call = rpc.with_call(request)
            assert dict(call.trailing_metadata())[WORKER_KEY] == "0/1"
        request = inference.ModelInferRequest(model_name="m", raw_input_contents=[ROW.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        _, call = stub.ModelInfer.with_call(request)
        assert WORKER_KEY not in {key for key, _ in (*call.initial_metadata(), *call.trailing_metadata())}
