"""A gateway in real processes on free loopback ports, for tests: started, watched, killed in part, always ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_S = 60.0
STOP_S = 20.0


class Running:
    """
    ``interlock serve`` on ``home``. The constructor returns when it says that it serves (``ready`` is what it said).
    ``tree`` is the source tree that all its processes run; None: this one.
    """

    def __init__(self, home: Path, *options: str, workers: int = 2, wait: bool = True, tree: Path | None = None) -> None:
        self.home = home
        self.log = home.with_suffix(".log")
        command = [
            *(sys.executable, "-m", "gateway", "serve", "--json", "--home", str(home), "--workers", str(workers)),
            *("--data-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
            *("--drain-delay-s", "0", *options),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, cwd=tree
            )
        self.ready: dict[str, Any] = {}
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.end()
                raise

    def wait_ready(self) -> None:
        """Waits for the line that says that it serves."""
        assert self.process.stdout is not None
        text, deadline = "", time.monotonic() + START_S
        while not text.rstrip().endswith("}"):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self.process.stdout], [], [], left_s)[0]:
                raise AssertionError(f"not ready within {START_S} s:\n{self.tail()}")
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"ended with {self.process.wait()} before it served:\n{self.tail()}")
            text += line
        self.ready = json.loads(text)

    @property
    def data(self) -> str:
        """host:port of predictions."""
        return str(self.ready["data_address"])

    @property
    def admin(self) -> str:
        """host:port of administration."""
        return str(self.ready["admin_address"])

    @property
    def http(self) -> str:
        """host:port of metrics and health."""
        return str(self.ready["http_address"])

    def note(self) -> dict[str, Any]:
        """The note in the home: process ids."""
        found: dict[str, Any] = json.loads((self.home / "run" / "gateway.json").read_text())
        return found

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """Asks it to stop; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def end(self) -> None:
        """Leaves nothing running, whatever has happened before."""
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


Start = Callable[..., Running]  # what the fixture `start` gives


def kill(pid: int) -> None:
    """As the kernel's out-of-memory killer would."""
    os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
