"""
The orders with which a supervisor starts a child process, and the connection between the two.

The orders travel in one environment variable. The connection is a socket pair. Its end tells the child that the supervisor
is gone (it then stops gracefully by itself). The child says on it that it serves, or why it cannot start. Control asks on it
for a rolling restart and hears its progress; a worker hears that another process has replaced it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.settings.values import Settings

VARIABLE = "INTERLOCK_CHILD"
SERVING = b"+"  # what a child says once it serves
RESTART = b"\x05"  # control's request for a rolling restart
REPLACED = b"replaced\n"  # what a worker hears when its replacement serves
MAX_WORDS = 32 * 1024


@dataclass(frozen=True, slots=True)
class Orders:
    """
    What a child starts with. ``role`` is control or worker; ``number`` counts workers from 0; ``restarts`` how often it
    was started again, ``replacements`` how often another process took its place; ``settings`` have real ports; ``line`` is
    the file descriptor of its end of the line. ``must_be_ready``: a worker that ends rather than serve less than the
    process that serves in its place until then. ``notes`` is the file descriptor of the memory in which a worker notes its
    runs. ``isolate`` are versions (model, number) that have just ended workers.
    """

    role: str
    number: int
    restarts: int
    settings: Settings
    line: int
    replacements: int = 0
    must_be_ready: bool = False
    notes: int = -1
    isolate: tuple[tuple[str, int], ...] = ()


def encode(orders: Orders) -> str:
    """Returns the value of VARIABLE."""
    return msgspec.json.encode(orders, enc_hook=_encode_path).decode()


def take_orders() -> Orders | None:
    """Returns this process' orders, None if it is no child of a supervisor. Removes them from the environment."""
    text = os.environ.pop(VARIABLE, "")
    return msgspec.json.decode(text, type=Orders, dec_hook=_decode_path) if text else None


class SupervisorConnection:
    """The child's end."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lock = threading.Lock()
        self._on_line: Callable[[bytes], None] | None = None
        self._unheard: list[bytes] = []

    def watch(self, on_end: Callable[[], None]) -> None:
        """Calls ``on_end`` from a thread when the supervisor is gone, and `listen`'s callback with every line that it says."""

        def wait() -> None:
            try:
                with self._socket.makefile("rb") as lines:
                    for line in lines:
                        self._heard(line)
            except OSError:
                pass  # reset: gone as well
            on_end()

        threading.Thread(target=wait, name="lifeline", daemon=True).start()

    def listen(self, on_line: Callable[[bytes], None]) -> None:
        """Sets the callback for the supervisor's lines, and calls it with those that have come before. Called once."""
        with self._lock:
            self._on_line = on_line
            for line in self._unheard:
                on_line(line)

    def _heard(self, line: bytes) -> None:
        with self._lock:
            if self._on_line is None:
                self._unheard.append(line)
            else:
                self._on_line(line)

    def ask_restart(self) -> None:
        """Asks for a rolling restart. Its progress comes as lines (`gateway.process.rolling_messages`)."""
        self._send(RESTART)

    def serving(self) -> None:
        """Tells that this process serves."""
        self._send(SERVING)

    def failed(self, text: str) -> None:
        """Tells why this process ends, also on standard error."""
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:
            pass  # a full disk, or nobody reads it: the supervisor still hears it
        self._send(text.encode()[:MAX_WORDS])

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            pass  # the supervisor is gone


def _encode_path(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} in orders")


def _decode_path(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"{kind.__name__} in orders")
