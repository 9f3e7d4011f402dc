"""h2load, the C HTTP/2 client that makes the load: its command, its body, and what its report says."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.demo.models import INPUT, scans
from gateway.rpc.messages import inference

MISSING = "h2load is not installed: run .ci/install-system-packages"
PATH = "/inference.GRPCInferenceService/ModelInfer"
_RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_COUNTS = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored")


class H2loadFailed(Exception):
    """h2load is missing, or its run did not go as it must."""


@dataclass(frozen=True, slots=True)
class Report:
    """``rate`` in requests a second; ``succeeded`` are HTTP answers, which proves no gRPC success."""

    rate: float
    succeeded: int


def request_body(model: str) -> bytes:
    """A ModelInferRequest with one real image, in gRPC's frame: a byte that says "not compressed", four of length."""
    request = inference.ModelInferRequest(model_name=model)
    request.inputs.add(name=INPUT, datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(scans()[1].images[0].astype(np.float32).tobytes())
    message = request.SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


def load(port: int, body: Path, *, streams: int, seconds: float, pin: Sequence[str] = (), connections: int = 1) -> Report:
    """Connections with so many concurrent streams each, for so long after a short warm-up. Raises H2loadFailed."""
    program = shutil.which("h2load")
    if program is None:
        raise H2loadFailed(MISSING)
    command = [
        *(
            *pin,
            program,
            f"-c{connections}",
            "-t1",
            f"-m{streams}",
            f"-D{seconds * 1000:.0f}ms",
            "--warm-up-time=300ms",
            "-d",
            str(body),
        ),
        *("-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{PATH}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise H2loadFailed(f"h2load ended with code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def parse(text: str) -> Report:
    """h2load's closing lines. Raises H2loadFailed for any other text, and where requests failed."""
    rate, counts = _RATE.search(text), _COUNTS.search(text)
    if rate is None or counts is None:
        raise H2loadFailed(f"cannot read h2load's report:\n{text}")
    _total, _done, succeeded, failed, errored = map(int, counts.groups())
    if not succeeded or failed or errored:
        raise H2loadFailed(f"h2load: {succeeded} requests succeeded, {failed} failed, {errored} errored")
    return Report(float(rate[1]), succeeded)
