"""One peer under one setting, as a server of the benchmark: started in its own environment, checked, always stopped."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from gateway.client.call_errors import CallError
from loadtests.bench.servers import MODEL, ServerFailed
from loadtests.peers.catalogue import Peer, Setting
from loadtests.peers.counts import Ports
from loadtests.peers.environments import HERE
from loadtests.peers.probe import Expected, wait_right
from loadtests.peers.processes import stop_tree

START_TIMEOUT_S = 90.0
LAST_LINES = 20
# Of the caller's environment these would reach into the peer's: its packages, its gRPC.
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GRPC_EXPERIMENTS")


class PeerServer:
    """A running peer. See `loadtests.bench.servers.Server`; raises ServerFailed with the end of its log."""

    def __init__(
        self, peer: Peer, setting: Setting, model: Path, home: Path, *, python: Path, expected: Expected,
        pin: Sequence[str], env: Mapping[str, str], serve: Path | None = None, start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:  # fmt: skip
        self.name = f"{peer.name}, {setting.name}"
        self._peer = peer
        self._ports = free_ports()
        self.port = self._ports.grpc
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / f"{peer.key}-{self.port}.log"
        command = [
            *(*pin, str(python), str(serve or HERE / peer.key / "serve.py"), "--model", str(model), "--name", MODEL),
            *("--port", str(self._ports.grpc), "--http-port", str(self._ports.http)),
            *("--metrics-port", str(self._ports.metrics), *setting.options),
        ]
        passed_on = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, env={**passed_on, **env},
                start_new_session=True,  # Ctrl-C reaches the benchmark, which stops it in order
            )  # fmt: skip
        try:
            wait_right(self.name, self.port, expected, timeout_s=start_timeout_s, is_running=self._runs)
        except ServerFailed as error:
            self.stop()
            raise self._told(error) from error
        except BaseException:  # Ctrl-C too
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The root of its processes."""
        return self._process.pid

    def finish(self, expected: int) -> int:
        """See Server."""
        try:
            return self._counted(expected)
        except (ServerFailed, CallError, OSError) as error:
            raise self._told(error) from error
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends it and everything that it started."""
        stop_tree(self._process)

    def _runs(self) -> bool:
        return self._process.poll() is None

    def _counted(self, expected: int) -> int:
        if not self._runs():
            raise ServerFailed(f"{self.name} ended with code {self._process.returncode}")
        answered = self._peer.count(self._ports, MODEL)
        if answered < expected:
            raise ServerFailed(f"{self.name}: h2load saw {expected} answers, the server counts {answered} good ones")
        return answered

    def _told(self, error: Exception) -> ServerFailed:
        return ServerFailed(f"{error}\nthe end of its log:\n{tail(self.log)}")


def free_ports() -> Ports:
    """Three ports of loopback that are free now; another program may still be faster, which the peer's log then says."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return Ports(*(one.getsockname()[1] for one in sockets))


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
