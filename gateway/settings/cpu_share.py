"""
The part of the machine's processors that this process may use: its affinity, and the CPU quota of its control groups.

A quota (Docker's ``--cpus``, Kubernetes' ``limits.cpu``) bounds time and not cores. More processes than it pays for are
stopped in the middle of their work in every period. Linux; elsewhere there is no quota.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ReadText = Callable[[str], str | None]  # a file's text by its path; None if there is no such file

V2_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
V1_MOUNTS = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct")


@dataclass(frozen=True, slots=True)
class CpuShare:
    """``cores`` by affinity; ``quota`` in cores, None for none."""

    cores: int
    quota: float | None = None

    @property
    def usable(self) -> int:
        """The number of processes that can run at a time: the cores, or the quota rounded up if that is less."""
        return self.cores if self.quota is None else min(self.cores, max(1, math.ceil(self.quota)))

    @property
    def reason(self) -> str:
        """Says why fewer than the cores are usable; empty if all are."""
        if self.usable == self.cores:
            return ""
        return f"the CPU quota is {round(self.quota or 0.0, 2):g} of {self.cores} cores"


def cpu_share() -> CpuShare:
    """Returns the share of this process now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return CpuShare(cores, smallest_quota(_read))


def smallest_quota(read: ReadText) -> float | None:
    """Returns the smallest quota, in cores, of the process' control group and of those above it; None if none has one."""
    found = [quota for quota in _quotas(read) if quota is not None]
    return min(found, default=None)


def quota_v2(text: str | None) -> float | None:
    """Reads ``cpu.max`` of cgroup v2: ``50000 100000`` is 0.5, ``max 100000`` is None."""
    return _ratio(*(text or "").split()[:2])


def quota_v1(quota: str | None, period: str | None) -> float | None:
    """Reads ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` of cgroup v1. A quota of -1 is None."""
    return _ratio((quota or "").strip(), (period or "").strip())


def own_groups(text: str) -> Iterator[tuple[bool, str]]:
    """Yields (is v2, path) of the groups that may have a CPU quota, from the text of ``/proc/self/cgroup``."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number, controllers) == ("0", ""):
            yield True, path
        elif "cpu" in controllers.split(","):
            yield False, path


def _quotas(read: ReadText) -> Iterator[float | None]:
    for is_v2, path in own_groups(read("/proc/self/cgroup") or ""):
        own = PurePosixPath("/", path.lstrip("/"))
        for mount in V2_MOUNTS if is_v2 else V1_MOUNTS:
            # A container may see its own group at the mount, under a path that exists only outside: then only "/" is found.
            for group in (own, *own.parents):
                folder = f"{mount}{group}".rstrip("/")
                if is_v2:
                    yield quota_v2(read(f"{folder}/cpu.max"))
                else:
                    yield quota_v1(read(f"{folder}/cpu.cfs_quota_us"), read(f"{folder}/cpu.cfs_period_us"))


def _ratio(quota: str = "", period: str = "") -> float | None:
    is_quota = quota.isascii() and quota.isdigit() and period.isascii() and period.isdigit()
    return int(quota) / int(period) if is_quota and int(quota) and int(period) else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
