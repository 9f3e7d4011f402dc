"""A call under which the connection breaks may be what ended the server: it is repeated once, and no more."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from gateway.client import AsyncClient, Client, ConnectionBroke
from gateway.client.call_errors import Unavailable
from gateway.client.retry import MAX_BROKEN, is_retryable

X = {"x": np.zeros((1, 4), np.float32)}
PREFACE, SETTINGS, ACK = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"


class Dying:
    """Speaks HTTP/2 until a whole call has come, and then closes the connection. ``calls`` counts those."""

    def __init__(self) -> None:
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as received:
                connection.sendall(SETTINGS + ACK)
                received.read(len(PREFACE))
                while head := received.read(9):
                    received.read(int.from_bytes(head[:3], "big"))
                    if head[3] == 0:  # DATA
                        self.calls += 1
                        break

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def dying() -> Iterator[Dying]:
    server = Dying()
    yield server
    server.close()


def test_a_client_calls_twice_at_most(dying: Dying) -> None:
    with Client(dying.address, channels=1) as client, pytest.raises(ConnectionBroke, match="broke under the call"):
        client.infer("ratio", X)
    assert dying.calls == 2


def test_an_asyncio_client_calls_twice_at_most(dying: Dying) -> None:
    async def call() -> None:
        async with AsyncClient(dying.address, channels=1) as client:
            await client.infer("ratio", X)

    with pytest.raises(ConnectionBroke):
        asyncio.run(call())
    assert dying.calls == 2


def test_other_failures_between_do_not_count() -> None:
    broken, busy = ConnectionBroke("broke"), Unavailable("not ready")
    assert is_retryable(busy, [broken, busy])
    assert is_retryable(broken, [busy, busy])
    assert not is_retryable(broken, [broken] * MAX_BROKEN)
