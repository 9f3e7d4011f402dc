"""
A sandbox: a child process under limits of memory and time, for work on files that may be hostile or broken.

The child gets one JSON value on standard input and answers with one on standard output. `ask` is the parent's side,
`answer` the child's.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
Order = TypeVar("Order")
Result = TypeVar("Result")


class SandboxFailed(Exception):
    """The child gave no answer. The text says why, as the end of a sentence. ``is_late``: it exceeded its time."""

    def __init__(self, text: str, *, is_late: bool = False) -> None:
        super().__init__(text)
        self.is_late = is_late


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of address space, seconds of processor time, and bytes of each file that a process may use."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int = 0

    def apply(self) -> None:
        """Limits this process, for good."""
        for what, bound in (
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_CPU, self.cpu_s),
            (resource.RLIMIT_FSIZE, self.file_bytes),
            (resource.RLIMIT_CORE, 0),
        ):
            _, hard = resource.getrlimit(what)
            resource.setrlimit(what, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def ask(module: str, order: object, kind: type[Result], *, timeout_s: float) -> Result:
    """Runs ``python -m module`` with the order and returns its answer. Raises SandboxFailed; OSError if it cannot start."""
    try:
        child = subprocess.run(
            [sys.executable, "-m", module],
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SandboxFailed(f"did not end within {timeout_s:g} s", is_late=True) from None
    if child.returncode:
        raise SandboxFailed(f"ended with {_ending(child.returncode)}{_last_line(child.stderr)}")
    return msgspec.json.decode(child.stdout, type=kind)


def answer(kind: type[Order], limits: Callable[[Order], Limits], work: Callable[[Order], object]) -> None:
    """Reads the order, limits this process, and writes the result of ``work``. The process dies with its parent."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    limits(order).apply()
    sys.stdout.buffer.write(msgspec.json.encode(work(order)))


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hints = {signal.SIGXCPU: " (too much processor time)", signal.SIGKILL: " (too much processor time or memory)"}
    return f"signal {signal.Signals(-code).name}{hints.get(signal.Signals(-code), '')}"


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:500]}" if lines else ""
