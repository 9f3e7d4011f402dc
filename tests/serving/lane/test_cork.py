"""The answers of a burst leave in few packets, and nothing stays behind in a socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import grpc
import pytest

from gateway.protocol.services import INFER_METHOD
from gateway.serving.lane.call import Call, Lane
from gateway.serving.lane.cork import Corks
from gateway.serving.lane.fast import CORKED_FROM, PUSHED_EVERY
from gateway.serving.lane.tcp_connections import Connection, connections, peer_name
from tests.serving.lane.conftest import ServedLane

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="only Linux corks sockets")
Take = Callable[[Lane, int], list[Call]]
DATA_SEGMENTS_OUT = 156  # where struct tcp_info (linux/tcp.h) has tcpi_data_segs_out


def option(descriptor: int, name: int, size: int = 0) -> int | bytes:
    sock = socket.socket(fileno=descriptor)
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, name, size) if size else sock.getsockopt(socket.IPPROTO_TCP, name)
    finally:
        sock.detach()


def segments_sent(descriptor: int) -> int:
    info = option(descriptor, socket.TCP_INFO, 256)
    assert isinstance(info, bytes)
    return int(struct.unpack_from("I", info, DATA_SEGMENTS_OUT)[0])


def to(peer: bytes) -> Connection:
    return next(connection for connection in connections() or () if connection.peer == peer)


@pytest.mark.parametrize("lane_server", ["fast"], indirect=True)
def test_a_burst_leaves_in_few_packets_and_uncorks(lane_server: ServedLane, take: Take) -> None:
    """Segments on the wire are counted by the kernel: with a write each, there would be one for every answer at least."""
    count = 4 * PUSHED_EVERY
    futures = [lane_server.method.future(b"%d" % index) for index in range(count)]
    calls = take(lane_server.lane, count)
    connection = to(calls[0].core.peer())
    before = segments_sent(connection.descriptor)
    lane_server.lane.reply([(call, call.message) for call in calls])
    assert [future.result(10) for future in futures] == [b"%d" % index for index in range(count)]
    assert 1 <= segments_sent(connection.descriptor) - before <= count // 2
    assert not option(connection.descriptor, socket.TCP_CORK)


@pytest.mark.parametrize("lane_server", ["fast"], indirect=True)
def test_bursts_over_many_connections_are_all_answered(lane_server: ServedLane, take: Take) -> None:
    """One connection has most of the calls, each of the others one."""
    others = [
        grpc.insecure_channel(lane_server.address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(CORKED_FROM)
    ]
    methods = [lane_server.method] * (2 * PUSHED_EVERY) + [channel.unary_unary(INFER_METHOD) for channel in others]
    for turn in range(3):  # the connections are looked up in the first
        futures = [method.future(b"%d %d" % (turn, index)) for index, method in enumerate(methods)]
        calls = take(lane_server.lane, len(methods))
        lane_server.lane.reply([(call, call.message) for call in calls])
        assert [future.result(10) for future in futures] == [b"%d %d" % (turn, index) for index in range(len(methods))]
    for channel in others:
        channel.close()


@pytest.mark.parametrize("lane_server", ["fast"], indirect=True)
def test_a_burst_that_fails_midway_leaves_no_cork(lane_server: ServedLane, take: Take) -> None:
    """An answer that is no bytes is refused by grpc; what was written before must still leave."""
    futures = [lane_server.method.future(b"") for _ in range(CORKED_FROM)]
    first, *others = take(lane_server.lane, CORKED_FROM)
    descriptor = to(first.core.peer()).descriptor
    with pytest.raises(TypeError):
        lane_server.lane.reply([(first, b"first"), *((call, "no bytes") for call in others)])  # type: ignore[list-item]
    assert not option(descriptor, socket.TCP_CORK)
    lane_server.lane.reply([(call, b"again") for call in others])
    assert sorted(future.result(10) for future in futures) == [*[b"again"] * len(others), b"first"]


class Pair:
    """Both ends of a TCP connection of this process."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.theirs = socket.create_connection(listening.getsockname())
            self.ours, _ = listening.accept()
        self.peer = peer_name(*self.ours.getpeername())

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.theirs.close()
        self.ours.close()


def test_what_is_corked_comes_with_a_push_or_at_the_end() -> None:
    corks = Corks()
    with Pair() as pair:
        pair.theirs.setblocking(False)
        corked = corks.cork([pair.peer])
        assert list(corked) == [pair.ours.fileno()]
        pair.ours.sendall(b"one")
        with pytest.raises(BlockingIOError):
            pair.theirs.recv(10)
        corks.push(corked)
        assert pair.theirs.recv(10) == b"one"
        pair.ours.sendall(b"two")
        with pytest.raises(BlockingIOError):
            pair.theirs.recv(10)
        corks.uncork(corked)
        assert pair.theirs.recv(10) == b"two"


def test_a_connection_that_is_gone_or_unknown_is_left_alone() -> None:
    corks = Corks()
    with Pair() as pair:
        corks.uncork(corks.cork([pair.peer]))
        peer = pair.peer
    assert list(corks.cork([peer])) == []
    assert list(corks.cork([b"unix:", b"ipv4:192.0.2.1:1"])) == []


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", b"ipv4:192.0.2.1:80"),
        ("::ffff:192.0.2.1", b"ipv4:192.0.2.1:80"),
        ("2001:db8::1", b"ipv6:%5B2001:db8::1%5D:80"),
    ],
)
def test_peers_are_named_as_grpc_names_them(host: str, name: bytes) -> None:
    assert peer_name(host, 80) == name
