"""What this machine is, as far as control decides by it: its memory, and what a serving layout was made for. Linux."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path


def layout_key(layout_format: int) -> str:
    """
    Names what a serving layout depends on beside the model: its format, ONNX Runtime's version and the processor, whose
    kernels say how weights are packed and how fast that is.
    """
    return f"{layout_format}-ort{version('onnxruntime')}-{platform.machine()}-{_processor()}"


def _processor() -> str:
    """Of the first processor's name and features, in short."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = [platform.processor()]
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
    text = "\n".join(line for line in lines if line.startswith(wanted))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def memory_bytes() -> int:
    """Memory that processes here may take together: the machine's, or the control group's when that is less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)
