"""
Memory and latency of a swap: `python -m loadtests.swap_memory [--mib 192] [--workers 2]`.

Starts a gateway, registers two versions of a model of that size, promotes one to the other under load, and prints what
memory each worker has to itself (smaps' private pages, mapped files left out) before, at most during, and after.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from gateway.client import AdminClient, CallError, Client

MIB = 1024**2
ROW_FLOATS = 2048  # 16 MiB a matrix
LOOK_S = 0.02


def model(path: Path, mib: int, seed: int) -> Path:
    """Makes a chain of matrix products with ``mib`` MiB of weights, which differ by seed."""
    random, side = np.random.default_rng(seed), ROW_FLOATS
    weights = [
        numpy_helper.from_array((random.standard_normal((side, side)) / side**0.5).astype(np.float32), f"w{index}")
        for index in range(max(1, mib // 16))
    ]
    nodes = [
        helper.make_node("MatMul", [f"h{index}" if index else "x", weight.name], [f"h{index + 1}"])
        for index, weight in enumerate(weights)
    ]
    last = f"h{len(weights)}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", side])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", side])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(made.SerializeToString())
    return path


def own_bytes(pid: int) -> int:
    """Returns a process' anonymous memory: what it cannot share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


class Watch:
    """Records the largest private memory of each process while the block runs."""

    def __init__(self, pids: list[int]) -> None:
        self.most = {pid: own_bytes(pid) for pid in pids}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.most = {pid: max(most, own_bytes(pid)) for pid, most in self.most.items()}


class Load:
    """One caller that asks without a pause. ``latencies_s`` are of answers; ``failures`` counts the rest."""

    def __init__(self, address: str, name: str) -> None:
        self.latencies_s: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(address, name), daemon=True)
        self._thread.start()

    def _run(self, address: str, name: str) -> None:
        row = np.ones((1, ROW_FLOATS), np.float32)
        with Client(address) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    client.infer(name, row)
                    self.latencies_s.append((began, time.monotonic() - began))
                except CallError as error:
                    self.failures.append(str(error))

    def end(self) -> None:
        """Ends the load and returns when its last call has ended."""
        self._stop.set()
        self._thread.join()

    def p99_ms(self, start_s: float, end_s: float) -> float:
        """Returns the 99th percentile of calls that began in this time, in milliseconds."""
        found = sorted(latency for began, latency in self.latencies_s if start_s <= began < end_s)
        return round(found[int(len(found) * 0.99)] * 1e3, 2) if found else 0.0


def measured(gateway: dict[str, Any], folder: Path, mib: int, steady_s: float) -> dict[str, Any]:
    """Deploys, promotes and measures."""
    note = json.loads((Path(gateway["home"]) / "run" / "gateway.json").read_text())
    pids = [worker["pid"] for worker in note["workers"]]
    idle = [own_bytes(pid) // MIB for pid in pids]
    with AdminClient(gateway["admin_address"]) as admin:
        laid_out_s = []
        for seed in (1, 2):
            began = time.monotonic()
            admin.register("big", model(folder / f"{seed}.onnx", mib, seed)).result()
            laid_out_s.append(round(time.monotonic() - began, 1))
        began = time.monotonic()
        admin.deploy("big", 1).result()
        deploy_s = time.monotonic() - began
        load = Load(gateway["data_address"], "big")
        time.sleep(steady_s)
        before = [own_bytes(pid) // MIB for pid in pids]
        began = time.monotonic()
        with Watch(pids) as watch:
            admin.promote("big", 2).result()
            ended = time.monotonic()
            time.sleep(0.5)
        time.sleep(steady_s)
        load.end()
        (status,) = admin.status().models
    return {
        "weights_mib": mib,
        "register_s": laid_out_s,
        "deploy_s": round(deploy_s, 3),
        "promote_s": round(ended - began, 3),
        "versions": {
            v.version: (v.layout, round(v.load_ms), v.private_bytes // MIB, v.mapped_bytes // MIB) for v in status.versions
        },
        "private_mib": {
            "idle": idle,
            "one_version": before,
            "most_during": [watch.most[pid] // MIB for pid in pids],
            "two_versions": [own_bytes(pid) // MIB for pid in pids],
        },
        "p99_ms": {
            "steady": load.p99_ms(began - steady_s, began),
            "swap": load.p99_ms(began, ended + 0.5),
            "after": load.p99_ms(ended + 0.5, ended + 0.5 + steady_s),
        },
        "calls": len(load.latencies_s),
        "failures": load.failures[:5],
    }


def main() -> None:
    """Prints one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    options.add_argument("--mib", type=int, default=192, help="size of the weights")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--steady-s", type=float, default=3.0, help="seconds of load before and after")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "gateway",
            "serve",
            "--json",
            "--home",
            f"{folder}/home",
            "--workers",
            str(given.workers),
        ]
        for name in ("data", "admin", "http"):
            command += [f"--{name}-address", "127.0.0.1:0"]
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            text = ""
            while process.stdout is not None and not text.rstrip().endswith("}"):
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(Path(f"{folder}/log").read_text())
                text += line
            print(json.dumps(measured(json.loads(text), Path(folder), given.mib, given.steady_s), indent=1))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


if __name__ == "__main__":
    main()
