"""What `interlock serve` says once it serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import serve
from gateway.settings.cpu_share import CpuShare
from gateway.settings.values import Settings


def test_the_ready_line_says_why_there_are_fewer_workers_than_cores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "cpu_share", lambda: CpuShare(64, 2.0))
    serve._announce(Settings(workers=2), Path("/h"), 1, as_json=False)
    assert "(2 workers, as the CPU quota is 2 of 64 cores, home /h, pid 1)" in capsys.readouterr().out
    serve._announce(Settings(workers=2), Path("/h"), 1, as_json=True)
    assert json.loads(capsys.readouterr().out)["workers_reason"] == "the CPU quota is 2 of 64 cores"


def test_workers_that_the_operator_chose_need_no_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "cpu_share", lambda: CpuShare(64, 2.0))
    serve._announce(Settings(workers=8), Path("/h"), 1, as_json=False)
    assert "(8 workers, home /h, pid 1)" in capsys.readouterr().out
