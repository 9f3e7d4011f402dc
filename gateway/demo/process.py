"""A gateway in its own processes, for the demo and the load tests: started on free ports, always stopped at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class GatewayBroken(Exception):
    """The gateway did not start, or died. The text is for people."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running gateway listens, each as host:port."""

    data: str
    admin: str
    http: str


class GatewayProcess:
    """``interlock serve`` with its own process group. Use as a context manager, or call `stop`."""

    def __init__(
        self,
        home: Path,
        *,
        workers: int = 2,
        lane: str = "fast",
        data_address: str = "127.0.0.1:0",
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it. ``prefix`` goes before the command (such as ``taskset -c 0``), ``options`` after it."""
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.log = home / "gateway.log"
        self._note = home / "run" / "gateway.json"
        self._note.unlink(missing_ok=True)
        command = [
            *(*prefix, sys.executable, "-m", "gateway", "serve", "--home", str(home), "--workers", str(workers)),
            *("--lane", lane, "--data-address", data_address, "--admin-address", "127.0.0.1:0"),
            *("--http-address", "127.0.0.1:0", *options),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        try:
            self.addresses = self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> Addresses:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise GatewayBroken(f"the gateway ended with code {self._process.returncode}:\n{self.tail()}")
            found = self._addresses()
            if found is not None and is_http_ok(f"http://{found.http}/health/live"):
                return found
            time.sleep(0.05)
        raise GatewayBroken(f"the gateway did not start within {START_TIMEOUT_S:g} s:\n{self.tail()}")

    def _addresses(self) -> Addresses | None:
        try:
            note = json.loads(self._note.read_text())
        except FileNotFoundError:
            return None
        return Addresses(note["data_address"], note["admin_address"], note["http_address"])

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the supervisor lives."""
        return self._process.poll() is None

    def tail(self, lines: int = 20) -> str:
        """Returns the last lines of the gateway's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """Stops it gracefully, by force after 30 s. Returns the exit code."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # whatever is left of the group
        except ProcessLookupError:
            pass
        return self._process.wait()

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def is_http_ok(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
