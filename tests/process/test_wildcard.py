"""Where the gateway can be reached by the host of an address, with and without IPv6."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.process.sockets import reserve
from gateway.process.wildcard import bound
from gateway.serving.lane.server import listen, make_server
from gateway.settings.address import Address
from gateway.settings.sections import DataPortSettings
from gateway.settings.values import CannotStart

LOOPBACKS = ("127.0.0.1", "::1")
SOCKET = socket.socket


def has_ipv6() -> bool:
    try:
        with SOCKET(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without IPv6."""

    def made(family: int = socket.AF_INET, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return SOCKET(family, *rest)

    monkeypatch.setattr(socket, "socket", made)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_interface_means_both_families(host: str) -> None:
    with bound(Address(host, 0), [socket.SO_REUSEADDR]) as sock:
        sock.listen()
        assert [answers(loopback, sock.getsockname()[1]) for loopback in LOOPBACKS] == [True, True]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_grpc_means_the_same(host: str) -> None:
    server = make_server(DataPortSettings())
    port = int(listen(server, f"{host}:0").rpartition(":")[2])
    server.start()
    assert [answers(loopback, port) for loopback in LOOPBACKS] == [True, True]
    server.stop(0).wait()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_interface_is_ipv4_without_ipv6(host: str, no_ipv6: None) -> None:
    with bound(Address(host, 0), [socket.SO_REUSEADDR]) as sock:
        sock.listen()
        assert answers("127.0.0.1", sock.getsockname()[1])


def test_an_ipv6_address_without_ipv6_is_refused_in_words(no_ipv6: None) -> None:
    with pytest.raises(CannotStart, match=r"--http-address \[::1\]:0: this machine has no IPv6; use an IPv4 address"):
        reserve("http_address", Address("::1", 0))


def test_a_reserved_port_of_every_interface_is_free_for_grpc() -> None:
    address, keeper = reserve("data_address", Address("::", 0))
    with keeper:
        server = make_server(DataPortSettings())
        assert listen(server, str(address)) == str(address)
        server.stop(0).wait()
