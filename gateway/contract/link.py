"""
Framed messages over a stream socket: what carries the values of `gateway.contract` between control and a worker.

A frame is a 4-byte big-endian length and a msgpack array ``[kind, value]``. One thread receives, any thread sends.
Nothing here knows what the messages mean.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec

from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredState
from gateway.contract.handshake import Hello, HelloRefused, Welcome
from gateway.contract.observed import Observed, Report, Reported
from gateway.contract.predictions import PredictionBatch
from gateway.contract.questions import Answer, Ask
from gateway.contract.traces import Traces

Message = (
    Hello
    | Welcome
    | HelloRefused
    | Observed
    | Telemetry
    | PredictionBatch
    | Traces
    | DesiredState
    | Report
    | Reported
    | Ask
    | Answer
)
_TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Message)}
_DECODERS = {name: msgspec.msgpack.Decoder(kind) for name, kind in _TYPES.items()}
_FRAME = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024


class LinkClosed(ConnectionError):
    """The other side is gone."""


class MalformedFrame(LinkClosed):
    """The other side sent a frame that is no message here: it may be of another build."""


class Link:
    """One connection. ``send`` is thread-safe and blocks while the socket's buffer is full; ``receive`` is for one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sending = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: Message) -> None:
        """Sends one message whole. Raises LinkClosed when the other side is gone."""
        body = self._encoder.encode((type(message).__name__, message))
        try:
            with self._sending:
                self._socket.sendall(_LENGTH.pack(len(body)) + body)
        except OSError as error:
            raise LinkClosed(str(error)) from error

    def receive(self) -> Message:
        """Waits for the next message. Raises LinkClosed at the end of the stream, MalformedFrame otherwise."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise MalformedFrame(f"frame of {length} bytes exceeds {MAX_FRAME_BYTES}")
        try:
            kind, body = _FRAME.decode(self._read(length))
            message: Message = _DECODERS[kind].decode(body)
        except (msgspec.MsgspecError, KeyError) as error:
            raise MalformedFrame(f"malformed frame: {error}") from error
        return message

    def messages(self) -> Iterator[Message]:
        """All messages until the other side closes."""
        while True:
            try:
                yield self.receive()
            except LinkClosed:
                return

    def close(self) -> None:
        """Closes the connection; a thread in ``receive`` gets LinkClosed. Safe to call twice."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more
        self._socket.close()

    def _read(self, count: int) -> bytes:
        chunks = bytearray()
        while len(chunks) < count:
            try:
                chunk = self._socket.recv(min(count - len(chunks), 1 << 20))
            except OSError as error:
                raise LinkClosed(str(error)) from error
            if not chunk:
                raise LinkClosed("closed by the other side")
            chunks += chunk
        return bytes(chunks)


def pair() -> tuple[Link, Link]:
    """Two connected ends inside one process."""
    left, right = socket.socketpair()
    return Link(left), Link(right)


def listen(path: Path) -> socket.socket:
    """A listening Unix socket at ``path`` (mode 0600), in place of what an earlier process left there."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short(path) as name:
        server.bind(name)
    path.chmod(0o600)
    server.listen(128)
    return server


def connect(path: Path) -> Link:
    """Connects to the Unix socket at ``path``. Raises OSError when nobody listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            sock.connect(name)
    except OSError:
        sock.close()
        raise
    return Link(sock)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits the 108 bytes of a Unix address, however deep the home directory is."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
