"""What is wrong is refused with words that help: models, homes, ports, addresses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Running
from tiny import broken, pointing_outside, text

from gateway.client import AdminClient


def _interlock(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, timeout=60, env=environment
    )


def _serve(home: Path | str, **options: str) -> subprocess.CompletedProcess[str]:
    chosen = {"data_address": "127.0.0.1:0", "admin_address": "127.0.0.1:0", "http_address": "127.0.0.1:0", **options}
    flags = [part for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", value)]
    return _interlock("serve", "--home", str(home), *flags)


@pytest.mark.parametrize(("make", "words"), [(broken, "damaged"), (text, "got text"), (pointing_outside, "outside")])
@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_a_wrong_model_is_refused_with_its_reason(
    gateway: Running, tmp_path: Path, make: Callable[[Path], Path], words: str, is_folder: bool
) -> None:
    """A file is read before it is sent, a folder is sent whole and read by the gateway."""
    path = make(tmp_path / "m.onnx")
    run = _interlock("register", "wrong", str(tmp_path if is_folder else path), "--admin", gateway.admin)
    assert run.returncode == 1
    assert words in run.stderr
    assert "Traceback" not in run.stderr
    with AdminClient(gateway.admin) as admin:
        assert "wrong" not in [model.name for model in admin.models()]


def test_a_missing_model_file_is_named(gateway: Running, tmp_path: Path) -> None:
    run = _interlock("register", "wrong", str(tmp_path / "none.onnx"), "--admin", gateway.admin)
    assert run.returncode == 1
    assert "none.onnx" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_second_gateway_on_a_home_is_refused(gateway: Running) -> None:
    run = _serve(gateway.home)
    assert run.returncode == 1
    assert f"another gateway (pid {gateway.process.pid}) runs on this home" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("option", ["data_address", "admin_address", "http_address"])
def test_a_port_in_use_is_refused_by_option(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        run = _serve(tmp_path / "home", **{option: address})
    assert run.returncode == 1
    assert f"--{option.replace('_', '-')} {address}: the port is in use" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_home_that_cannot_be_written_is_refused() -> None:
    run = _serve("/proc/interlock")
    assert run.returncode == 1
    assert "--home /proc/interlock: cannot be written" in run.stderr


def test_a_wrong_option_is_refused_by_name(tmp_path: Path) -> None:
    run = _serve(tmp_path / "home", trace_ratio="2")
    assert run.returncode == 1
    assert "trace_ratio: 2.0 is out of range" in run.stderr


def test_a_registry_of_a_newer_release_stops_the_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "registry.db").write_text("this is no database " * 500)
    run = _serve(home)
    assert run.returncode == 1
    assert "control cannot start" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_admin_that_is_not_there_is_said() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        run = _interlock("status", "--json", "--admin", f"127.0.0.1:{unused.getsockname()[1]}")
    assert run.returncode == 1
    assert json.loads(run.stdout)["error"]["reason"] == "UNREACHABLE"
    assert "interlock serve" in run.stderr
