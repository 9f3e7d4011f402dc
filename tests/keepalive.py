"""
A client of HTTP/2 whose connection is idle but for pings, as gRPC's keepalive sends them.

gRPC's own client sends at most one a second, so a test with it would last seconds before a server that counts pings is found.
"""

from __future__ import annotations

import socket
import struct
from typing import BinaryIO

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING, GOAWAY, SETTINGS, ACK = 6, 7, 4, 1  # RFC 9113, sections 6.7, 6.8 and 6.5
PINGS = 20  # by default gRPC's servers disconnect a client at the third that comes too soon


def pings_answered(address: str) -> int:
    """How many of PINGS pings, one after the other, the server answers before it sends the client away."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(PREFACE + _frame(SETTINGS, b""))
        with connection.makefile("rb") as answers:
            for number in range(PINGS):
                connection.sendall(_frame(PING, struct.pack(">Q", number)))
                if not _is_answered(answers):
                    return number
    return PINGS


def _is_answered(answers: BinaryIO) -> bool:
    while True:
        head = answers.read(9)
        if len(head) < 9:
            return False
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        answers.read(size)
        if kind == GOAWAY:
            return False
        if (kind, flags) == (PING, ACK):
            return True


def _frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 0)) + bytes(4) + payload
