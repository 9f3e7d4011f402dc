"""h2load, the C HTTP/2 client: its command line and its report."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.loops import PATH
from loadtests.bench.machine import LOAD, pin

MISSING = "h2load is not installed: run .ci/install-system-packages"
_RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_COUNTS = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored")


class H2loadFailed(Exception):
    """h2load is missing, or its run failed."""


@dataclass(frozen=True, slots=True)
class Report:
    """``rate`` in requests a second; ``succeeded`` are HTTP answers, which proves no gRPC success."""

    rate: float
    succeeded: int


def load(port: int, body: Path, *, streams: int, seconds: float) -> Report:
    """Loads one connection with so many concurrent streams for so long after a short warm-up. Raises H2loadFailed."""
    program = shutil.which("h2load")
    if program is None:
        raise H2loadFailed(MISSING)
    command = [
        *(*pin(LOAD), program, "-c1", "-t1", f"-m{streams}", f"-D{seconds * 1000:.0f}ms", "--warm-up-time=300ms"),
        *("-d", str(body)),
        *("-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{PATH}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise H2loadFailed(f"h2load ended with code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def parse(text: str) -> Report:
    """Reads h2load's closing lines. Raises H2loadFailed for any other text, and if requests failed."""
    rate, counts = _RATE.search(text), _COUNTS.search(text)
    if rate is None or counts is None:
        raise H2loadFailed(f"cannot read h2load's report:\n{text}")
    _total, _done, succeeded, failed, errored = map(int, counts.groups())
    if not succeeded or failed or errored:
        raise H2loadFailed(f"h2load: {succeeded} requests succeeded, {failed} failed, {errored} errored")
    return Report(float(rate[1]), succeeded)
