from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocol.messages import inference
from loadtests.bench import bodies
from loadtests.bench.collector import Collector
from loadtests.bench.h2load import H2loadFailed, parse
from loadtests.bench.scenario import KEPT, NOT_MEASURED, judge
from loadtests.bench.scenarios.expired import Expired
from loadtests.bench.soak import Soak
from loadtests.bench.stand import Stand

ROOT = Path(__file__).parents[2]
QUICK = ["--repetitions=1", "--pace=0.3", "--most-late-ms=1e9", "--report-only"]
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
    body = bodies.digits("digits")
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    request = inference.ModelInferRequest.FromString(body[5:])
    assert request.model_name == "digits"
    assert len(request.raw_input_contents[0]) == 64 * 4


def _bench(*words: str, timeout: int = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout)


@pytest.mark.slow
def test_the_benchmark_measures_every_server(h2load: str, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = _bench("loadtests.bench", "--scenario", "path", "--streams", "8", *QUICK, f"--out={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())["scenarios"]["path"]["figures"]
    assert all(figures[f"{server}_per_s_8"] > 0 for server in ("aio", "lane", "interlock"))
    assert "| Interlock / bare lane echo |" in out.with_suffix(".md").read_text()


@pytest.mark.slow
def test_this_tree_is_compared_with_a_revision(h2load: str, tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no git checkout")
    out = tmp_path / "compare.json"
    done = _bench("loadtests.bench.compare", "HEAD", "--rounds=1", "--pace=0.3", "--streams", "8", f"--out={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {row["figure"]: row for row in json.loads(out.read_text())["figures"]}
    assert figures["path.interlock_per_s_8"]["ratio"] > 0
    assert "| path.interlock_per_s_8 |" in out.with_suffix(".md").read_text()


def test_a_revision_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = _bench("loadtests.bench.compare", "no-such-revision", f"--out={tmp_path}/compare.json")
    assert done.returncode == 1
    assert "BASE=no-such-revision: git knows no such revision" in done.stdout


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    collector = Collector()
    yield Stand(tmp_path, collector, pace=0.1, repetitions=1, most_late_ms=1e9)
    collector.stop()


def test_a_short_soak_leaves_nothing_behind(stand: Stand) -> None:
    soak = Soak(swaps=10, operations=5, every_s=0.1)
    result = soak.measure(stand)
    verdicts = {verdict.goal.figure: verdict for verdict in judge(soak.goals, result.figures)}
    for figure in ("held_at_end", "failures", "unaccounted"):
        assert verdicts[figure].word == KEPT, (verdicts[figure], result)
    assert result.figures["misdeeds"] > 10
    assert result.figures["requests"] > 100


@pytest.mark.slow
def test_a_scenario_has_a_figure_for_each_of_its_goals(stand: Stand) -> None:
    expired = Expired(trials=2)
    result = expired.measure(stand)
    assert all(verdict.word != NOT_MEASURED for verdict in judge(expired.goals, result.figures)), result
    assert result.figures["expired_share"] > 0
