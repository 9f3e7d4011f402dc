from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.rpc.messages import inference
from loadtests.bench.h2load import H2loadFailed, parse, request_body

ROOT = Path(__file__).parents[2]
REPORT = """
finished in 3.30s, 18400.33 req/s, 5.16MB/s
requests: 55201 total, 55233 started, 55201 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: 55201 2xx, 0 3xx, 0 4xx, 0 5xx
"""


def test_h2loads_report_is_read() -> None:
    report = parse(REPORT.format(succeeded=55201, failed=0))
    assert (report.rate, report.succeeded) == (18400.33, 55201)


@pytest.mark.parametrize("text", ["", REPORT.format(succeeded=0, failed=0), REPORT.format(succeeded=9, failed=1)])
def test_a_report_without_success_is_refused(text: str) -> None:
    with pytest.raises(H2loadFailed):
        parse(text)


def test_the_body_is_one_uncompressed_grpc_message() -> None:
    body = request_body("digits")
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    request = inference.ModelInferRequest.FromString(body[5:])
    assert request.model_name == "digits"
    assert len(request.raw_input_contents[0]) == 64 * 4


@pytest.mark.slow
def test_the_benchmark_measures_every_server(h2load: str, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "loadtests.bench",
            "--repetitions=1",
            "--seconds=0.5",
            "--streams",
            "8",
            "--one-setting",
            f"--out={out}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rates = json.loads(out.read_text())["event engine off"]
    assert set(rates) == {"bare grpc.aio echo", "bare lane echo", "Interlock"}
    assert all(row["8"] > 0 for row in rates.values())
    assert "| Interlock / bare lane echo |" in out.with_suffix(".md").read_text()
