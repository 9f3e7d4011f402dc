"""A gateway on `[::]` where the kernel's IPv6 is disabled, in a network of its own."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from running import START_S, STOP_S

ALONE = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"


def test_it_says_that_it_serves(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--net", "sh", "-c", ALONE], capture_output=True).returncode:
        pytest.skip("a network without IPv6 is not permitted here")
    addresses = [f"--{name}-address=[::]:0" for name in ("data", "admin", "http")]
    serve = [sys.executable, "-m", "gateway", "serve", "--json", "--home", tmp_path / "home", "--workers", "1", *addresses]
    alone = ["unshare", "--net", "sh", "-c", f'{ALONE} && exec "$@"', "sh", *serve]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(alone, stdout=subprocess.PIPE, stderr=log) as process:
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], START_S)[0], (tmp_path / "log").read_text()
            assert json.loads(process.stdout.readline())["status"] == "ready"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)
