from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["gateway.runtime.onnx", "loadtests.bench.plain_ort"])
def test_onnx_runtime_reports_no_usage(module: str, tmp_path: Path) -> None:
    """Its reporting leaves the file of a session in the temporary folder as soon as it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", f"import {module}"], env={**environment, "TMPDIR": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
