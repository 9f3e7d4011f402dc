from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from loadtests.bench import bodies, http2
from loadtests.bench.load import UNIMPLEMENTED, Answers, Load, LoadFailed, Target
from loadtests.bench.loops import Loop, Order, due_times, split_messages
from loadtests.bench.raw_http2 import IN_STREAM, OK, RESET
from loadtests.bench.servers import EchoServer

ANY_LATENESS = 1e9  # the tests' machine may be busy
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    server = EchoServer("lane", "echo_lane")
    yield server
    server.finish(0)


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(bodies.framed(b"x" * 300))
    return path


def test_hpacks_own_examples_are_decoded() -> None:
    """RFC 7541, C.3: three requests on one connection."""
    decoder = http2.HeaderDecoder()
    blocks = (
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    )
    first, second, third = (decoder.decode(bytes.fromhex(block)) for block in blocks)
    assert first == {b":method": b"GET", b":scheme": b"http", b":path": b"/", b":authority": b"www.example.com"}
    assert second == {**first, b"cache-control": b"no-cache"}
    assert third[b"custom-key"] == b"custom-value"
    assert third[b":authority"] == b"www.example.com"


def test_a_decoder_reads_what_the_client_writes() -> None:
    first, later = http2.request_headers("/a.B/C", "127.0.0.1:1", timeout_ms=20, extra=[("x-long", "v" * 300)])
    decoder = http2.HeaderDecoder()
    fields = decoder.decode(first)
    assert fields[b":path"] == b"/a.B/C"
    assert fields[b"grpc-timeout"] == b"20m"
    assert fields[b"x-long"] == b"v" * 300
    assert decoder.decode(later) == fields
    assert len(later) < len(first) / 10


@pytest.mark.parametrize("block", [b"\x80", b"\xff\x80\x01", b"\x40\x05ab", b"\x40\x81\x00\x01a"])
def test_broken_headers_are_refused(block: bytes) -> None:
    with pytest.raises(http2.BrokenHeaders):
        http2.HeaderDecoder().decode(block)


def test_messages_of_a_file_are_told_apart() -> None:
    first, second = bodies.framed(b"abc"), bodies.framed(b"")
    assert split_messages(first + second) == [first, second]
    with pytest.raises(ValueError, match="ends inside"):
        split_messages(first[:-1])


def test_calls_are_due_at_the_profiles_rates() -> None:
    even = due_times([(100, 2), (0, 1), (10, 1)], is_random=False)
    assert len(even) == 210
    assert np.allclose(np.diff(even[:200]), 0.01)
    assert even[200] == 3.0
    random = due_times([(1000, 10)], is_random=True, seed=1)
    assert abs(len(random) - 10_000) < 500
    assert np.all(np.diff(random) >= 0)
    assert np.std(np.diff(random)) == pytest.approx(0.001, rel=0.1)  # as an exponential's, which even spacing has not


def test_a_closed_loop_is_answered_by_a_lane(echo: EchoServer, body: Path) -> None:
    answers = Target(echo.port, body).closed(0.5, depth=16, connections=2)
    assert answers.count > 200
    assert answers.failures == {}
    assert answers.rate() > 0


def test_an_open_loop_sends_as_many_as_are_due(echo: EchoServer, body: Path) -> None:
    answers = Target(echo.port, body, most_late_ms=ANY_LATENESS).open(400, 1.0)
    assert answers.count == answers.ok.count == 400
    assert answers.late_ms.shape == (400,)
    assert np.all(answers.latency_ms > 0)


def test_requests_larger_than_the_windows_arrive_whole(tmp_path: Path) -> None:
    server = EchoServer("lane", "echo_lane", "--reply-bytes", "8")
    path = tmp_path / "large"
    path.write_bytes(bodies.framed(b"x" * 600_000) + bodies.framed(b"y" * 70_000))
    try:
        answers = Target(server.port, path).closed(0.5, depth=8)
        assert answers.count > 10
        assert answers.failures == {}
    finally:
        assert server.finish(answers.count) == answers.count


def test_a_generator_that_is_late_is_not_believed(echo: EchoServer, body: Path) -> None:
    order = Order(echo.port, str(body), str(body.with_suffix(".npz")), "open", ((200.0, 0.3),))
    with pytest.raises(LoadFailed, match="late at p99"):
        Load(order, most_late_ms=-1).wait()


def test_latency_counts_from_when_a_call_was_due(echo: EchoServer, body: Path) -> None:
    order = Order(echo.port, str(body), "", "open", ((1000.0, 0.5),))
    loop = Loop(order, split_messages(body.read_bytes()))
    connect = loop._connections[0].call

    def stalled(due: float) -> None:
        if not stalls:
            stalls.append(due)
            time.sleep(0.2)  # the client itself hangs: the calls that were due meanwhile have waited
        connect(due)

    stalls: list[float] = []
    loop._connections[0].call = stalled  # type: ignore[method-assign]
    answers = Answers.of(loop.run())
    assert answers.late_ms.max() > 150
    assert np.count_nonzero(answers.latency_ms > 90) > 80


def test_a_load_ends_early_when_told(echo: EchoServer, body: Path) -> None:
    target = Target(echo.port, body, most_late_ms=ANY_LATENESS)
    before = time.monotonic()
    load = target.load("open", [(100.0, 60.0)])
    time.sleep(1.5)  # long enough for the process to have begun
    answers = load.stop_early()
    assert time.monotonic() - before < 30
    assert 0 < answers.count == answers.ok.count < 6000


class _Streams(grpc.GenericRpcHandler):
    """Answers every message of a stream; the third of each stream with an error message in field 1."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method != f"/{SERVICE}/ModelStreamInfer":
            return None
        return grpc.stream_stream_rpc_method_handler(
            lambda messages, _: (b"\x0a\x01e" if place == 2 else b"\x12" + message for place, message in enumerate(messages))
        )


@pytest.fixture
def stream_port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Streams()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_messages_on_one_stream_are_counted_one_by_one(stream_port: int, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(bodies.framed(b"x" * 30_000))
    answers = Target(stream_port, path).load("pipelined", [(0.0, 0.5)], depth=4).wait()
    assert answers.count > 20
    assert answers.failures == {IN_STREAM: 1}


@pytest.mark.parametrize("kind", ["closed", "pipelined"])
def test_a_method_that_is_not_there_is_told_by_its_status(kind: str, body: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        answers = Target(port, body).load(kind, [(0.0, 0.3)], depth=2).wait()
    finally:
        server.stop(None).wait()
    assert set(answers.failures) == {UNIMPLEMENTED}


def test_a_lane_answers_a_stream_in_order(echo: EchoServer, body: Path) -> None:
    answers = Target(echo.port, body).load("pipelined", [(0.0, 0.5)], depth=8).wait()
    assert answers.count > 100
    assert answers.failures == {}


def test_calls_cut_by_the_server_end_as_reset(tmp_path: Path, body: Path) -> None:
    """A server that takes a connection and hangs up, again and again."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    is_over = threading.Event()

    def hang_up() -> None:
        while not is_over.is_set():
            one, _ = listener.accept()
            one.recv(10)
            one.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    order = Order(listener.getsockname()[1], "", "", "open", ((50.0, 0.5),), drain_s=1.0)
    answers = Answers.of(Loop(order, split_messages(body.read_bytes())).run())
    is_over.set()
    socket.create_connection(listener.getsockname()).close()
    thread.join()
    listener.close()
    assert answers.count == 25
    assert answers.count_of(OK) == 0
    assert answers.count_of(RESET) > 0
