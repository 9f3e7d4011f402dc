from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "seconds"), [("promote_under_load", 12), ("worker_killed", 10), ("crash", 14)])
def test_a_short_run_keeps_its_limits(scenario: str, seconds: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.run", scenario, f"--seconds={seconds}", f"--out={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / f"loadtest-{scenario}.json").read_text())
    assert report["problems"] == []
    assert report["requests"] > 100 * seconds
