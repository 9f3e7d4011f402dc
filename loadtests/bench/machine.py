"""The machine: the cores that serve and make load, what the figures were measured on, and a worker's environment."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from gateway.process.handle import EVERY_CHILD, EVERY_WORKER

# Of a server that is compared with a worker: the same variables from its first instruction on.
WORKER_ENVIRONMENT = {**EVERY_CHILD, **EVERY_WORKER}
SERVER, LOAD = 0, 1
BEHIND = 15  # nice value
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(place: int) -> Sequence[str]:
    """The prefix that keeps a command on the core of SERVER or LOAD; none where there are too few cores or no taskset."""
    if len(_CORES) < 2 or shutil.which("taskset") is None:
        return ()
    return ("taskset", "-c", str(_CORES[place]))


def stay_beside() -> None:
    """Keeps this process, and what it starts without a pin, off the core that serves."""
    if pin(LOAD):
        os.sched_setaffinity(0, _CORES[1:])


def stand_back(pid: int) -> None:
    """Lets a process that shares the load's core run after the load client: each thread, as nice is a thread's on Linux."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended since
            os.setpriority(os.PRIO_PROCESS, int(thread.name), BEHIND)


def machine() -> dict[str, str]:
    """Describes what the figures were measured on."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "grpcio": version("grpcio"),
        "onnxruntime": version("onnxruntime"),
        "pinned": "server (of the gateway its worker) and load on a core each" if pin(SERVER) else "not pinned",
    }
