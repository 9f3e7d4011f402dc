from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.demo.callers import Seen
from gateway.demo.result_table import Measured, measured
from gateway.demo.tour import problems
from gateway.protocol.messages import admin

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_fails_no_request_and_leaves_nothing_running(tmp_path: Path) -> None:
    mark = tmp_path / "tmp"
    mark.mkdir()
    done = subprocess.run(
        ["env", f"TMPDIR={mark}", "COLUMNS=200", sys.executable, "-m", "gateway.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 requests failed" in done.stdout
    for version in ("v1 logistic regression", "v2 perceptron", "v3 wrecked perceptron"):
        assert version in done.stdout
    assert list(mark.iterdir()) == []
    assert [p.pid for p in psutil.process_iter() if str(mark) in " ".join(_command(p))] == []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_live_quality_sums_the_arms_of_a_version() -> None:
    cells = [admin.ConfusionCell(truth=t, predicted=p, count=n) for t, p, n in (("0", "0", 8), ("0", "1", 2), ("1", "1", 10))]
    arms = [admin.VersionQuality(version=1, arm=arm, labelled=20, confusion=cells) for arm in ("default", "pinned", "shadow")]
    live = measured(admin.Quality(versions=arms))["1"]
    assert live.labelled == 40
    assert live.accuracy == pytest.approx(0.9)
    assert live.f1 == pytest.approx((2 * 8 / 18 + 2 * 10 / 22) / 2)


def test_the_demo_tells_when_callers_and_gateway_disagree() -> None:
    seen = Seen()
    seen.answers["1"], seen.right["1"] = 10, 9
    assert problems(seen, {"1": Measured(10, 0.9, 0.9)}) == []
    assert problems(seen, {"1": Measured(10, 0.8, 0.9)})
    assert problems(seen, {"1": Measured(9, 1.0, 0.9)})
    assert problems(seen, {})


def test_the_demo_tells_of_stale_answers() -> None:
    assert problems(Seen(stale=1), {})
