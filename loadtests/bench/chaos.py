"""Callers that misbehave, on plain sockets: they cancel, disconnect in the middle of a request, and send malformed bytes."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

from loadtests.bench import bodies, http2
from loadtests.bench.loops import PATH
from loadtests.bench.raw_http2 import Connection, Disconnected, wait

CALLS = 8
WAIT_S = 0.05


class Chaos:
    """
    The acts of a misbehaving caller. ``abandoned`` counts well-formed requests whose end it did not wait for: the server may
    have answered them or not. ``acts`` counts what it did, by name. One thread.
    """

    def __init__(self, port: int, model: str, seed: int) -> None:
        self.abandoned = 0
        self.acts: Counter[str] = Counter()
        self._port = port
        self._good = bodies.digits(model)
        self._random = random.Random(seed)
        self._ways: tuple[Callable[[], None], ...] = (
            self.cancel, self.hang_up, self.cut, self.malformed_message, self.short_message, self.no_http2, self.expire,
        )  # fmt: skip

    def act(self) -> None:
        """Does one act, chosen at random."""
        way = self._random.choice(self._ways)
        try:
            way()
        except (Disconnected, OSError):
            pass  # the server may hang up on such a caller
        self.acts[way.__name__] += 1

    def cancel(self) -> None:
        """Calls, and sends RST_STREAM for each call before or after its answer."""
        connection = self._calls(self._good)
        wait([connection], self._random.choice((0, 0, 0.001)))
        for stream in tuple(connection.open):
            connection.cancel(stream)
        connection.flush()
        wait([connection], WAIT_S)
        connection.socket.close()

    def hang_up(self) -> None:
        """Calls, and closes or resets the socket before the answers."""
        connection = self._calls(self._good)
        connection.flush()
        if self._random.random() < 0.5:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()

    def cut(self) -> None:
        """Closes the socket in the middle of a request's bytes."""
        connection = Connection(self._port, PATH, [self._good])
        connection.call(time.perf_counter())
        connection.send_part(self._random.randint(1, len(self._good) - 1))
        connection.socket.close()

    def malformed_message(self) -> None:
        """Sends messages that are no ModelInferRequest, or one whose bytes contradict its shape."""
        garbage = self._random.randbytes(self._random.randint(1, 300))
        for message in (garbage, self._good[5:-7], self._good[5:] + garbage, b""):
            self._answered(bodies.framed(message))

    def short_message(self) -> None:
        """Sends a gRPC frame that promises more bytes than come, and one that says it is compressed."""
        self._answered(struct.pack(">BI", 0, 1000) + b"x" * 10)
        self._answered(b"\x01" + self._good[1:])

    def no_http2(self) -> None:
        """Sends bytes that are no HTTP/2."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as one:
            one.sendall(self._random.choice((b"", http2.PREFACE)) + self._random.randbytes(200))
            one.settimeout(WAIT_S)
            one.recv(4096)

    def expire(self) -> None:
        """Calls with a deadline of a millisecond."""
        connection = self._calls(self._good, timeout_ms=1)
        wait([connection], WAIT_S)
        connection.socket.close()

    def _calls(self, body: bytes, timeout_ms: int | None = None) -> Connection:
        connection = Connection(self._port, PATH, [body], timeout_ms=timeout_ms)
        for _ in range(CALLS):
            connection.call(time.perf_counter())
        self.abandoned += CALLS
        return connection

    def _answered(self, body: bytes) -> None:
        connection = Connection(self._port, PATH, [body])
        connection.call(time.perf_counter())
        until = time.perf_counter() + 1
        while connection.unanswered and time.perf_counter() < until:
            wait([connection], WAIT_S)
        connection.socket.close()


class ChaosThread:
    """Acts at intervals until it is stopped."""

    def __init__(self, chaos: Chaos, every_s: float) -> None:
        self._chaos, self._every_s = chaos, every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            self._chaos.act()

    def stop(self) -> None:
        """Stops it and returns when the last act has ended."""
        self._is_over.set()
        self._thread.join()
