"""
`python -m loadtests.bench.shadow_cost`: what a shadow twenty times slower than its primary costs the primary's callers.

One worker, the digits perceptron, offered half of what it can carry, open loop. The shadow at 100 % is switched on and
off in turns in the same gateway; p99 is over every request of all turns. Ends with code 1 when the primary's p99 grew
beyond 1.5 ×, when a primary call failed, or when copies are unaccounted for.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from gateway.client import AdminClient, Client
from gateway.demo import models
from gateway.demo.process import GatewayProcess
from loadtests.bench import h2load
from loadtests.bench.__main__ import EVENT_ENGINE_OFF, pin
from loadtests.bench.servers import MODEL

SLOWER = 20.0
MOST_P99_RATIO = 1.5
CONNECTIONS, PROCESSES = 5, 8
TICK_S = 0.01


def slowed(file: Path, target: Path, rounds: int) -> Path:
    """The same model behind a loop of so many rounds that changes nothing."""
    model = onnx.load(file)
    name = model.graph.input[0].name
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["keep_out"]), helper.make_node("Mul", ["state", "one"], ["state_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    for node in model.graph.node:
        node.input[:] = ["slowed_input" if given == name else given for given in node.input]
    loop = helper.make_node("Loop", ["slowed_rounds", "", name], ["slowed_input"], body=body)
    model.graph.node.insert(0, loop)
    model.graph.initializer.append(numpy_helper.from_array(np.array(rounds, np.int64), "slowed_rounds"))
    onnx.save(model, target)
    return target


def run_time_s(file: Path, rows: int) -> float:
    """The fastest of many runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.zeros((rows, 64), np.float32)}
    times = []
    for _ in range(200):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return min(times)


def slow_enough(file: Path, folder: Path) -> Path:
    """A version at least SLOWER times slower, both alone and in a batch of 16."""
    rounds = 16
    while True:
        target = slowed(file, folder / f"slow-{rounds}.onnx", rounds)
        if all(run_time_s(target, rows) >= SLOWER * run_time_s(file, rows) for rows in (1, 16)):
            return target
        rounds *= 2


def latencies_ms(port: int, body: Path, log: Path, *, rate: int, seconds: float) -> np.ndarray:
    """
    The time of every request at a constant rate. Raises H2loadFailed.

    h2load sends what is due every 10 ms at the most often, all connections of a process at once: several processes, each
    with few connections, started apart, come close to an even stream.
    """
    each = [
        *(*pin(1), str(shutil.which("h2load")), f"-c{CONNECTIONS}", "-t1", "-m32", f"-D{seconds:g}s", "-d", str(body)),
        *(f"--rps={rate / CONNECTIONS / PROCESSES:g}", "-H", "content-type: application/grpc", "-H", "te: trailers"),
    ]
    logs = [log.with_suffix(f".{number}") for number in range(PROCESSES)]
    running = []
    for file in logs:
        file.unlink(missing_ok=True)
        command = [*each, f"--log-file={file}", f"http://127.0.0.1:{port}{h2load.PATH}"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        time.sleep(TICK_S / PROCESSES)
    for process in running:
        h2load.parse(process.communicate(timeout=seconds + 60)[0])
    return np.concatenate([np.loadtxt(file, usecols=2) for file in logs]) / 1000


def main() -> int:
    """Reads the options and measures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.shadow_cost", description=__doc__)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("out/shadow_cost.json"))
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        print(h2load.MISSING)
        return 1
    with tempfile.TemporaryDirectory(prefix="interlock-shadow-") as name:
        result = measure(Path(name), options.turns, options.seconds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    is_kept = result["p99_ratio"] <= MOST_P99_RATIO and not result["primary_errors"] and result["shadow_dropped"] > 0
    return 0 if is_kept else 1


def measure(folder: Path, turns: int, seconds: float) -> dict[str, float]:
    """Alternates turns without and with the shadow; see the module."""
    file = models.export(models.perceptron(models.scans()[0]), folder / "digits.onnx")
    slow = slow_enough(file, folder)
    body = folder / "body"
    body.write_bytes(h2load.request_body(MODEL))
    env = {"GRPC_EXPERIMENTS": EVENT_ENGINE_OFF}
    with GatewayProcess(folder / "home", workers=1, prefix=pin(0), env=env, options=("--log-level", "warning")) as gateway:
        port = int(gateway.addresses.data.rpartition(":")[2])
        with AdminClient(gateway.addresses.admin) as admin, Client(gateway.addresses.data) as client:
            for path in (file, slow):
                admin.register(MODEL, path).result()
            admin.deploy(MODEL, 1).result()
            client.wait_ready(model=MODEL)
            count = CONNECTIONS * PROCESSES
            capacity = h2load.load(port, body, streams=1, seconds=seconds, pin=pin(1), connections=count).rate
            rate = int(capacity / 2)
            times: dict[bool, list[np.ndarray]] = {False: [], True: []}
            for turn in range(2 * turns):
                has_shadow = bool(turn % 2)
                admin.shadow(MODEL, 2 if has_shadow else None).result()
                times[has_shadow].append(latencies_ms(port, body, folder / "log", rate=rate, seconds=seconds))
            status = admin.status(MODEL).models[0]
    primary, shadow = sorted(status.versions, key=lambda version: version.version)
    p99 = {on: float(np.percentile(np.concatenate(parts), 99)) for on, parts in times.items()}
    return {
        "capacity_per_s": capacity,
        "offered_per_s": rate,
        "shadow_slower": run_time_s(slow, 1) / run_time_s(file, 1),
        "p99_ms_without": p99[False],
        "p99_ms_with": p99[True],
        "p99_ratio": p99[True] / p99[False],
        "p50_ms_without": float(np.median(np.concatenate(times[False]))),
        "p50_ratio": float(np.median(np.concatenate(times[True])) / np.median(np.concatenate(times[False]))),
        "primary_requests": primary.requests,
        "primary_errors": primary.errors,
        "shadow_compared": shadow.shadow_compared,
        "shadow_dropped": shadow.shadow_dropped,
    }


if __name__ == "__main__":
    sys.exit(main())
