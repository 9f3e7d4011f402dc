"""
A gRPC load client on plain sockets: one process, prebuilt requests, so cheap that one core offers more than a server carries.

It serves closed loops (so many calls at any time), open loops (calls at given times, whatever becomes of the earlier ones)
and pipelined messages on one stream. A latency counts from the time at which the call was *due* (as wrk2 does), and the
client says how late it was itself. The loops are in `loadtests.bench.loops`.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence

from loadtests.bench import http2

RECEIVE_BYTES = 1 << 18
REPLENISH_BYTES = 1 << 30  # received before the server's windows are opened again
RESET, UNANSWERED, IN_STREAM = -1, -2, -3  # beside gRPC's codes: reset or cut, no answer at the end, an error inside a stream
OK = 0
_HEADER = struct.Struct(">IBI")
_HEADER_FLAGS = http2.END_HEADERS | http2.PADDED | http2.PRIORITY
_PREFIX = struct.Struct(">BI")
_ERROR_FIELD = 0x0A  # ModelStreamInferResponse.error_message, field 1, comes first where it is set


class Disconnected(Exception):
    """The server has closed the connection."""


class Connection:
    """
    One HTTP/2 connection. ``finished`` collects (due, ended, status) of every call or message. Not thread-safe.

    ``bodies`` are gRPC messages with their prefix, sent in turn; ``timeout_ms`` goes with every call as `grpc-timeout`.
    Calls beyond the server's limit of concurrent streams are held back until others have ended, as gRPC's clients do; their
    deadline counts from then on.
    """

    def __init__(self, port: int, path: str, bodies: Sequence[bytes], *, timeout_ms: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.finished: list[tuple[float, float, int]] = []
        self.open: dict[int, float] = {}  # due by stream
        self.held: deque[float] = deque()  # due of calls that wait for the limit
        self._most_open = http2.LARGEST_WINDOW
        self.is_leaving = False  # the server has said GOAWAY: no new calls
        self._block, self._later_block = http2.request_headers(path, f"127.0.0.1:{port}", timeout_ms=timeout_ms)
        self._bodies, self._body = [bytes(body) for body in bodies], 0
        self._decoder = http2.HeaderDecoder()
        self._out = bytearray(http2.greeting())
        self._rest = b""
        self._stream = 1
        self._window = self._initial_window = http2.DEFAULT_WINDOW
        self._max_frame = http2.DEFAULT_MAX_FRAME
        self._windows: dict[int, int] = {}  # of streams whose message did not go out at once, and of pipelines
        self._blocked: deque[tuple[int, memoryview, int]] = deque()  # stream, what is left, flags of the last frame
        self._consumed = 0
        self._pipelines: dict[int, _Pipeline] = {}
        self._headers: tuple[int, int, bytearray] | None = None  # stream, flags, block so far

    # ---- sending

    def call(self, due: float) -> None:
        """A unary call that was due at this moment (seconds of `time.perf_counter`)."""
        if len(self.open) >= self._most_open:
            self.held.append(due)
            return
        stream, body = self._begin(), self._bodies[self._body]
        self._body = (self._body + 1) % len(self._bodies)
        self.open[stream] = due
        size = len(body)
        if self._blocked or size > self._window or size > self._initial_window or size > self._max_frame:
            self._windows[stream] = self._initial_window
            self._blocked.append((stream, memoryview(body), http2.END_STREAM))
            self._unblock()
        else:
            self._window -= size
            self._out += _HEADER.pack(size << 8 | http2.DATA, http2.END_STREAM, stream)
            self._out += body

    def cancel(self, stream: int) -> None:
        """Gives a call up, as a client does whose caller has gone."""
        self.open.pop(stream)
        self._out += http2.reset(stream)

    def send_part(self, spare: int) -> None:
        """Gives the socket all but the last so many bytes, and forgets those."""
        self.socket.send(self._out[:-spare])
        self._out.clear()

    def _begin(self) -> int:
        stream, block = self._stream, self._block
        self._out += _HEADER.pack(len(block) << 8 | http2.HEADERS, http2.END_HEADERS, stream)
        self._out += block
        self._block = self._later_block
        self._stream += 2
        return stream

    def begin_pipeline(self) -> int:
        """Opens a stream for many messages; returns its number."""
        stream = self._begin()
        self._windows[stream] = self._initial_window
        self._pipelines[stream] = _Pipeline()
        return stream

    def send(self, stream: int, due: float, count: int) -> None:
        """So many messages on a stream that `begin_pipeline` opened, in as few frames as may be (as gRPC core frames them)."""
        if not count:
            return
        bodies, place = self._bodies, self._body
        data = bodies[place] * count if len(bodies) == 1 else b"".join(bodies[(place + i) % len(bodies)] for i in range(count))
        self._body = (place + count) % len(bodies)
        self._pipelines[stream].dues.extend([due] * count)
        self._blocked.append((stream, memoryview(data), 0))
        self._unblock()

    def has_pipeline(self, stream: int) -> bool:
        """Whether the server has not ended the stream yet."""
        return stream in self._pipelines

    def _unblock(self) -> None:
        """Sends of what waits as much as the windows allow, in order."""
        while self._blocked:
            stream, left, flags = self._blocked[0]
            size = min(len(left), self._window, self._windows[stream], self._max_frame)
            if size <= 0:
                return
            is_last = size == len(left)
            self._out += _HEADER.pack(size << 8 | http2.DATA, flags if is_last else 0, stream)
            self._out += left[:size]
            self._window -= size
            self._windows[stream] -= size
            if is_last:
                self._blocked.popleft()
                if flags:
                    del self._windows[stream]
            else:
                self._blocked[0] = (stream, left[size:], flags)

    @property
    def has_output(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._out)

    def flush(self) -> None:
        """Gives the socket what it takes. Raises Disconnected."""
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError as error:
            raise Disconnected(str(error)) from None

    # ---- receiving

    def receive(self) -> None:
        """Takes what has come. Raises Disconnected, and BrokenHeaders."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise Disconnected(str(error)) from None
        if not data:
            raise Disconnected("closed by the server")
        self._rest = self._take_frames(self._rest + data if self._rest else data, time.perf_counter())
        if self._consumed > REPLENISH_BYTES:
            for stream in (0, *self._pipelines):
                self._out += http2.window_update(stream, self._consumed)
            self._consumed = 0

    def _take_frames(self, data: bytes, now: float) -> bytes:
        """Acts on every whole frame; returns the rest."""
        at, end, unpack = 0, len(data), _HEADER.unpack_from
        while end - at >= http2.HEADER_BYTES:
            word, flags, stream = unpack(data, at)
            start, next_at = at + http2.HEADER_BYTES, at + http2.HEADER_BYTES + (word >> 8)
            if next_at > end:
                break
            kind = word & 255
            if kind == http2.DATA:
                self._consumed += next_at - start
                if self._pipelines and (pipeline := self._pipelines.get(stream)) is not None:
                    pipeline.take(data[start:next_at], now, self.finished)
            elif kind == http2.HEADERS and flags & _HEADER_FLAGS == http2.END_HEADERS:
                self._take_headers(stream, flags, data[start:next_at], now)
            else:
                self._take_control(kind, flags, stream, data[start:next_at], now)
            at = next_at
        return data[at:]

    def _take_headers(self, stream: int, flags: int, block: bytes, now: float) -> None:
        fields = self._decoder.decode(block)
        if flags & http2.END_STREAM:
            status = fields.get(b"grpc-status", b"")
            self._finish(stream, now, int(status) if status.isdigit() else RESET)

    def _finish(self, stream: int, now: float, status: int) -> None:
        if stream in self._pipelines:
            self._pipelines.pop(stream).fail(now, status, self.finished)
        elif (due := self.open.pop(stream, None)) is not None:
            self.finished.append((due, now, status))
            if self.held and not self.is_leaving and len(self.open) < self._most_open:
                self.call(self.held.popleft())

    def _take_control(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        if kind == http2.SETTINGS and not flags & http2.ACK:
            self._take_settings(payload)
        elif kind == http2.PING and not flags & http2.ACK:
            self._out += http2.frame(http2.PING, http2.ACK, 0, payload)
        elif kind == http2.WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            if not stream:
                self._window += increment
            elif stream in self._windows:
                self._windows[stream] += increment
            self._unblock()
        elif kind == http2.RST_STREAM:
            self._finish(stream, now, RESET)
        elif kind == http2.GOAWAY:
            self.is_leaving = True
        elif kind in (http2.HEADERS, http2.CONTINUATION):
            self._take_long_headers(kind, flags, stream, payload, now)

    def _take_long_headers(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        """A header block in more than one frame. Padding and priorities, which gRPC core never sends, are not understood."""
        if kind == http2.HEADERS:
            if flags & (http2.PADDED | http2.PRIORITY):
                raise http2.BrokenHeaders(f"HEADERS with flags {flags:#x}")
            self._headers = (stream, flags, bytearray(payload))
        elif self._headers is not None:
            stream, first_flags, block = self._headers
            block += payload
            if flags & http2.END_HEADERS:
                self._headers = None
                self._take_headers(stream, first_flags, bytes(block), now)

    def _take_settings(self, payload: bytes) -> None:
        for key, value in http2.parsed_settings(payload):
            if key == http2.SETTING_INITIAL_WINDOW:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial_window
                self._initial_window = value
            elif key == http2.SETTING_MAX_STREAMS:
                self._most_open = value
            elif key == http2.SETTING_MAX_FRAME:
                self._max_frame = value
        self._out += http2.frame(http2.SETTINGS, http2.ACK, 0)
        self._unblock()

    @property
    def unanswered(self) -> int:
        """Calls and messages without an answer yet."""
        return len(self.open) + len(self.held) + sum(len(pipeline.dues) for pipeline in self._pipelines.values())

    def abandon(self, now: float, status: int) -> None:
        """Counts everything unanswered as ended with this status, and closes."""
        self.finished.extend((due, now, status) for due in self.held)
        self.held.clear()
        for stream in (*self.open, *self._pipelines):
            self._finish(stream, now, status)
        self.socket.close()


class _Pipeline:
    """Messages on their way over one stream; answers come in the order of the requests."""

    __slots__ = ("_rest", "dues")

    def __init__(self) -> None:
        self.dues: deque[float] = deque()
        self._rest = b""

    def take(self, data: bytes, now: float, finished: list[tuple[float, float, int]]) -> None:
        """The messages in the payload of a DATA frame, whole or in parts."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= _PREFIX.size:
            size = _PREFIX.unpack_from(data, at)[1]
            start, next_at = at + _PREFIX.size, at + _PREFIX.size + size
            if next_at > end:
                break
            status = IN_STREAM if size and data[start] == _ERROR_FIELD else OK
            finished.append((self.dues.popleft(), now, status))
            at = next_at
        self._rest = data[at:]

    def fail(self, now: float, status: int, finished: list[tuple[float, float, int]]) -> None:
        """The stream has ended: what is unanswered will stay so."""
        finished.extend((due, now, status or RESET) for due in self.dues)
        self.dues.clear()


def wait(connections: Sequence[Connection], timeout_s: float) -> None:
    """Flushes, waits for the first answer or room to send, and receives. Raises Disconnected."""
    for connection in connections:
        if connection.has_output:
            connection.flush()
    by_socket = {connection.socket: connection for connection in connections}
    full = [connection.socket for connection in connections if connection.has_output]
    # select, not poll: its time-out is in microseconds.
    readable, writable, _ = select.select(by_socket, full, (), max(0.0, timeout_s))
    for one in readable:
        by_socket[one].receive()
    for one in writable:
        by_socket[one].flush()
