"""
As much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as a client of one gRPC server needs, as pure functions on bytes.

Requests are built ahead of time; of answers only the headers named in full and unpacked are understood, which is how gRPC
core writes `:status`, `grpc-status` and `grpc-message`. Huffman-coded strings are passed over undecoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
SETTING_HEADER_TABLE_SIZE, SETTING_ENABLE_PUSH, SETTING_MAX_STREAMS, SETTING_INITIAL_WINDOW, SETTING_MAX_FRAME = 1, 2, 3, 4, 5
DEFAULT_WINDOW, DEFAULT_MAX_FRAME, LARGEST_WINDOW = 65_535, 16_384, 2**31 - 1
CANCEL = 8  # error code of RST_STREAM
HEADER_BYTES = 9
HUFFMAN = b"\0"  # no field begins with it
_FRAME = struct.Struct(">IBI")  # length and type in one, flags, stream

# RFC 7541, appendix A.
STATIC: tuple[tuple[bytes, bytes], ...] = tuple(
    (name, value)
    for name, _, value in (
        line.partition(b"=")
        for line in (
            b":authority=|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|"
            b":status=206|:status=304|:status=400|:status=404|:status=500|accept-charset=|accept-encoding=gzip, deflate|"
            b"accept-language=|accept-ranges=|accept=|access-control-allow-origin=|age=|allow=|authorization=|cache-control=|"
            b"content-disposition=|content-encoding=|content-language=|content-length=|content-location=|content-range=|"
            b"content-type=|cookie=|date=|etag=|expect=|expires=|from=|host=|if-match=|if-modified-since=|if-none-match=|"
            b"if-range=|if-unmodified-since=|last-modified=|link=|location=|max-forwards=|proxy-authenticate=|"
            b"proxy-authorization=|range=|referer=|refresh=|retry-after=|server=|set-cookie=|strict-transport-security=|"
            b"transfer-encoding=|user-agent=|vary=|via=|www-authenticate="
        ).split(b"|")
    )
)


class BrokenHeaders(ValueError):
    """A header block that HPACK does not allow, or that says what must be known in Huffman code."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values))


def parsed_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """(identifier, value) of a SETTINGS frame's payload."""
    return struct.iter_unpack(">HI", payload)  # type: ignore[return-value]


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: int = CANCEL) -> bytes:
    """A RST_STREAM frame: how a client cancels a call."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def greeting() -> bytes:
    """What a client sends first: the largest windows, so that it never keeps the server waiting."""
    ours = settings([(SETTING_ENABLE_PUSH, 0), (SETTING_INITIAL_WINDOW, LARGEST_WINDOW), (SETTING_MAX_FRAME, 2**24 - 1)])
    return PREFACE + ours + window_update(0, LARGEST_WINDOW - DEFAULT_WINDOW)


def request_headers(
    path: str, authority: str, *, timeout_ms: int | None = None, extra: Iterable[tuple[str, str]] = ()
) -> tuple[bytes, bytes]:
    """
    Header blocks of a gRPC call: for the first of a connection, which puts the fields into the server's table, and for every
    later one, which only names them there (as gRPC's own clients do); the field added last has the first free index.
    """
    fields = [(":path", path), (":authority", authority), ("content-type", "application/grpc"), ("te", "trailers"), *extra]
    if timeout_ms is not None:
        fields.append(("grpc-timeout", f"{timeout_ms}m"))
    known = _integer(3, 7, 0x80) + _integer(6, 7, 0x80)  # :method POST, :scheme http
    first = known + b"".join(b"\x40" + _string(name) + _string(value) for name, value in fields)
    later = known + b"".join(_integer(len(STATIC) + len(fields) - place, 7, 0x80) for place in range(len(fields)))
    return first, later


def _string(text: str) -> bytes:
    return _integer(len(text), 7, 0) + text.encode("ascii")


def _integer(value: int, bits: int, pattern: int) -> bytes:
    """RFC 7541, 5.1: an integer with a prefix of so many bits."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([pattern | value])
    out, value = bytearray([pattern | most]), value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


class HeaderDecoder:
    """Decodes the header blocks of one connection, in the order in which they came."""

    def __init__(self) -> None:
        self._table: list[tuple[bytes, bytes]] = []  # newest first
        self._size, self._limit = 0, 4096
        self._seen: dict[bytes, dict[bytes, bytes]] = {}  # blocks that change nothing, while the table stays as it is

    def decode(self, block: bytes) -> dict[bytes, bytes]:
        """Fields by name (the last of equal names). Raises BrokenHeaders."""
        found = self._seen.get(block)
        return self._decode(block) if found is None else found

    def _decode(self, block: bytes) -> dict[bytes, bytes]:
        fields: dict[bytes, bytes] = {}
        at, changes = 0, False
        try:
            while at < len(block):
                byte = block[at]
                if byte & 0x80:  # indexed
                    index, at = _read_integer(block, at, 7)
                    name, value = self._entry(index)
                    fields[name] = value
                elif byte & 0xE0 == 0x20:  # the table's size
                    self._limit, at = _read_integer(block, at, 5)
                    self._evict()
                    changes = True
                else:
                    is_kept = bool(byte & 0x40)
                    index, at = _read_integer(block, at, 6 if is_kept else 4)
                    if index:
                        name = self._entry(index)[0]
                    else:
                        name, at = _read_string(block, at)
                    value, at = _read_string(block, at)
                    fields[name] = value
                    if is_kept:
                        if HUFFMAN in (name[:1], value[:1]):
                            raise BrokenHeaders("a Huffman-coded field is to be kept, whose size only its decoding would tell")
                        self._insert(name, value)
                        changes = True
        except IndexError:
            raise BrokenHeaders(f"a header block of {len(block)} bytes ends or points beyond its table at {at}") from None
        if changes:
            self._seen.clear()
        elif len(self._seen) < 1000:
            self._seen[block] = fields
        return fields

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if not index:
            raise BrokenHeaders("a header field has index 0")
        return STATIC[index - 1] if index <= len(STATIC) else self._table[index - len(STATIC) - 1]

    def _insert(self, name: bytes, value: bytes) -> None:
        self._table.insert(0, (name, value))
        self._size += len(name) + len(value) + 32
        self._evict()

    def _evict(self) -> None:
        while self._size > self._limit:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + 32


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value, at = block[at] & most, at + 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte, at = block[at], at + 1
        value += (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """The string as it came; a Huffman-coded one is marked, so that it equals no name."""
    is_huffman = bool(block[at] & 0x80)
    length, at = _read_integer(block, at, 7)
    if at + length > len(block):
        raise IndexError
    text = block[at : at + length]
    return (HUFFMAN + text if is_huffman else text), at + length
