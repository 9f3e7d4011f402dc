"""`interlock configure` says what it changed, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Running
from tiny import scaler

from gateway.cli import main
from gateway.client import AdminClient

Configure = Callable[..., str]


@pytest.fixture
def configure(gateway: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any) -> Configure:
    """``configure("--max-rows", "8")`` on a deployment of the test's own: standard output."""
    model = request.node.name[-60:].strip("_")
    with AdminClient(gateway.admin) as admin:
        admin.register(model, scaler(tmp_path / "m.onnx", 1.0)).result()
        admin.deploy(model, 1).result()

    def call(*options: str) -> str:
        capsys.readouterr()
        assert main(["configure", model, *options, "--admin", gateway.admin]) == 0
        return capsys.readouterr().out

    return call


def test_every_setting_is_told_before_and_after(configure: Configure) -> None:
    options = "--max-rows 16 --preferred-rows 8,16 --adaptive-limit --rollback-window 90s --swap-order memory --json"
    changed = json.loads(configure(*options.split()))["operation"]["changes"]
    assert [(one["name"], one["before"], one["after"]) for one in changed] == [
        ("batching.max_rows", "64", "16"),
        ("batching.preferred_rows", "none", "8,16"),
        ("batching.adaptive_limit", "false", "true"),
        ("rollback_window_s", "3600", "90"),
        ("swap_order", "availability", "memory"),
    ]


def test_people_see_the_change_in_one_line(configure: Configure) -> None:
    assert "batching.max_rows 64 → 8, swap_order availability → memory" in " ".join(
        configure("--max-rows", "8", "--swap-order", "memory").split()
    )


def test_settings_that_are_there_already_change_nothing_and_write_no_revision(configure: Configure) -> None:
    first = json.loads(configure("--max-rows", "8", "--json"))
    again = json.loads(configure("--max-rows", "8", "--json"))
    assert (again["revision"], again["operation"]["changes"]) == (first["revision"], [])
    assert "nothing changed" in configure("--max-rows", "8")
