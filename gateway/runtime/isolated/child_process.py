"""One child process of an isolated model, as its worker sees it: started, asked, stopped, ended."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from gateway.runtime.isolated.orders_to_child import ChildMessage, ChildOrders, RunOrder
from gateway.runtime.isolated.tensor_area import TensorArea

END_S = 2.0  # seconds that a child has to end before it is killed
_DECODER: msgspec.msgpack.Decoder[ChildMessage] = msgspec.msgpack.Decoder(ChildMessage)


class ChildDied(Exception):
    """The child process has ended. ``signal`` is the signal's name, or ``exit`` and the code."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.signal = name


@dataclass(frozen=True, slots=True)
class ModelToRun:
    """The model to load: its file, intra-op threads, and entries of the runtime's session configuration."""

    path: Path
    threads: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


class ChildProcess:
    """A running child. One thread at a time asks it; any thread may `stop` a run."""

    def __init__(self, model: ModelToRun) -> None:
        self.inputs, self.outputs = TensorArea.make(), TensorArea.make()
        pairs = socket.socketpair(), socket.socketpair()
        theirs = [pair[1].fileno() for pair in pairs]
        areas = [self.inputs.descriptor, self.outputs.descriptor]
        orders = ChildOrders(str(model.path), model.threads, model.config, *theirs, *areas)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway.runtime.isolated.child_run", msgspec.json.encode(orders).decode()],
                pass_fds=(*theirs, *areas),
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
            )
        finally:
            for pair in pairs:
                pair[1].close()
        self._line, self._stops = (Connection(pair[0].detach()) for pair in pairs)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Returns whether the process still runs."""
        return self._process.poll() is None

    def send(self, order: RunOrder) -> None:
        """Asks for a run. Raises ChildDied."""
        try:
            self._line.send_bytes(msgspec.msgpack.encode(order))
        except OSError:
            raise ChildDied(self._ended()) from None

    def receive(self, timeout_s: float | None) -> ChildMessage | None:
        """Returns the next message, None if none comes in time (None: waits for ever). Raises ChildDied."""
        try:
            if timeout_s is not None and not self._line.poll(max(timeout_s, 0.0)):
                return None
            return _DECODER.decode(self._line.recv_bytes())
        except (EOFError, OSError):
            raise ChildDied(self._ended()) from None

    def stop(self, number: int) -> None:
        """Asks for the end of a run. Does nothing if it has ended."""
        try:
            self._stops.send_bytes(str(number).encode())
        except OSError:
            pass  # the child has died

    def end(self) -> str:
        """Ends the child, and gives everything back. Returns how it has ended. Safe to call twice."""
        if not self._line.closed:
            self._line.close()
            self._stops.close()
            self.inputs.close()
            self.outputs.close()
        return self._ended()

    def kill(self) -> None:
        """Ends a child that does not answer."""
        self._process.kill()

    def _ended(self) -> str:
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        try:
            return f"exit {code}" if code >= 0 else signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
