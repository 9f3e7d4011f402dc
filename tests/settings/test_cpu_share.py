"""How many processes the CPU quota of a control group pays for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings.cpu_share import CpuShare, quota_v1, quota_v2, smallest_quota

CPU = Path("/sys/fs/cgroup/cpu")  # of cgroup v1


@pytest.mark.parametrize(
    ("text", "cores"),
    [("50000 100000\n", 0.5), ("250000 100000", 2.5), ("max 100000\n", None), ("100000", None), ("", None), (None, None)],
)
def test_a_quota_of_cgroup_v2(text: str | None, cores: float | None) -> None:
    assert quota_v2(text) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("150000\n", "100000\n", 1.5), ("-1\n", "100000\n", None), (None, None, None), ("50000", "0", None), ("x", "1", None)],
)
def test_a_quota_of_cgroup_v1(quota: str | None, period: str | None, cores: float | None) -> None:
    assert quota_v1(quota, period) == cores


def test_the_smallest_quota_on_the_way_up_counts() -> None:
    files = {
        "/proc/self/cgroup": "0::/kubepods/pod1/container\n",
        "/sys/fs/cgroup/kubepods/cpu.max": "800000 100000",
        "/sys/fs/cgroup/kubepods/pod1/cpu.max": "150000 100000",
        "/sys/fs/cgroup/kubepods/pod1/container/cpu.max": "max 100000",
    }
    assert smallest_quota(files.get) == 1.5


def test_a_container_that_sees_its_group_at_the_mount_finds_it() -> None:
    files = {
        "/proc/self/cgroup": "5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    assert smallest_quota(files.get) == 2.0


def test_a_system_without_control_groups_has_no_quota() -> None:
    assert smallest_quota({}.get) is None


@pytest.mark.parametrize(
    ("share", "usable", "reason"),
    [
        (CpuShare(64, 2.0), 2, "the CPU quota is 2 of 64 cores"),
        (CpuShare(2, 0.5), 1, "the CPU quota is 0.5 of 2 cores"),
        (CpuShare(4, 1.5), 2, "the CPU quota is 1.5 of 4 cores"),
        (CpuShare(4, 3.5), 4, ""),
        (CpuShare(4, 100.0), 4, ""),
        (CpuShare(4), 4, ""),
    ],
)
def test_what_is_usable_and_why(share: CpuShare, usable: int, reason: str) -> None:
    assert (share.usable, share.reason) == (usable, reason)


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A control group of the kernel with half a core."""
    group = CPU / f"interlock-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("making a control group of cgroup v1 is not permitted here")
    (group / "cpu.cfs_quota_us").write_text(str(int((group / "cpu.cfs_period_us").read_text()) // 2))
    yield group
    group.rmdir()


def test_a_process_with_half_a_core_runs_one_worker(half_a_core: Path) -> None:
    program = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()));"
        "from gateway.settings.values import Settings; print(Settings().workers)"
    )
    ran = subprocess.run([sys.executable, "-c", program, half_a_core / "cgroup.procs"], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("1\n", "")
