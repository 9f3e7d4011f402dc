"""A gateway as containers are run: under a user id that has no name, on a read-only root, with a home that it may write."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running import START_S, STOP_S
from tiny import scaler

from gateway.client import AdminClient, Client

UID = 1_234_567
ROOT = Path(__file__).parents[2]
# Bypasses the permission to read, as the interpreter may lie in a private folder, and not the permission to write.
AS_USER = f"setpriv --reuid {UID} --regid 0 --clear-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search"
READ_ONLY = "mount -o remount,bind,ro /"
SERVE = [sys.executable, "-m", "gateway", "serve", "--json", "--workers", "1"]
PORTS = [f"--{name}-address=127.0.0.1:0" for name in ("data", "admin", "http")]


def in_container(home: Path, home_options: str) -> subprocess.Popen[str]:
    """Starts a gateway with a home that is mounted with these options. Skips the test where that is not permitted."""
    home.mkdir()
    prepare = f"{READ_ONLY} && mount -t tmpfs -o {home_options} none {home}"
    if subprocess.run(["unshare", "--mount", "sh", "-c", f"{prepare} && {AS_USER} true"], capture_output=True).returncode:
        pytest.skip("mounting and another user are not permitted here")
    command = ["unshare", "--mount", "sh", "-c", f'{prepare} && exec {AS_USER} "$@"', "sh", *SERVE, "--home", home, *PORTS]
    environ = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME", "USER", "LOGNAME")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env={**environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """One whose home belongs to group 0 and may be written by it, as in the image."""
    with in_container(tmp_path / "home", "uid=10001,gid=0,mode=0770") as process:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)


def test_a_user_without_a_name_in_group_0_serves_on_a_read_only_root(gateway: subprocess.Popen[str], tmp_path: Path) -> None:
    assert gateway.stdout is not None
    assert select.select([gateway.stdout], [], [], START_S)[0]
    ready = json.loads(gateway.stdout.readline())
    with AdminClient(ready["admin_address"]) as admin, Client(ready["data_address"]) as client:
        admin.register("m", scaler(tmp_path / "m.onnx", 2.0)).result()
        admin.deploy("m", 1).result()
        assert float(client.infer("m", np.ones((1, 2), np.float32))["y"][0, 0]) == 2.0


def test_a_home_of_another_user_is_named_at_once_with_what_is_missing(tmp_path: Path) -> None:
    with in_container(tmp_path / "home", "uid=10001,gid=0,mode=0700") as process:
        _, said = process.communicate(timeout=START_S)
    assert process.returncode == 1
    assert f"--home {tmp_path / 'home'}: cannot be written (Permission denied)" in said
    assert f"belongs to user 10001 and group 0 with mode 0700, and this is user {UID} in group 0" in said
