"""Facts about this machine that control decides by: its memory, and the key of its processor for serving layouts. Linux."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path


def layout_key(layout_format: int) -> str:
    """
    Returns a name for everything that a serving layout depends on apart from the model: the layout's format, ONNX Runtime's
    version, and the processor, which determines how weights are packed and how fast each form runs.
    """
    return f"{layout_format}-ort{version('onnxruntime')}-{platform.machine()}-{_processor()}"


def _processor() -> str:
    """Digest of the first processor's name and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = [platform.processor()]
    fields = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
    text = "\n".join(line for line in lines if line.startswith(fields))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def memory_bytes() -> int:
    """Returns the bytes that all processes may use together: the machine's memory, or the control group's limit if lower."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)
