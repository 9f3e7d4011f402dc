"""Taking a home and ports: one gateway each, and a clear word to the second."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process.home import lock, prepare
from gateway.process.sockets import ClosesFirst, reserve
from gateway.settings.address import Address
from gateway.settings.values import CannotStart


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_port_in_use_is_refused_by_option_and_address(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(CannotStart, match=f"--data-address 127.0.0.1:{port}: the port is in use"):
        reserve("data_address", Address("127.0.0.1", port))


def test_a_port_that_other_processes_share_is_in_use_too() -> None:
    with socket.socket() as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(("127.0.0.1", 0))
        shared.listen()
        with pytest.raises(CannotStart, match="in use"):
            reserve("http_address", Address("127.0.0.1", shared.getsockname()[1]))


def test_a_reserved_port_is_in_use_for_a_second_gateway_and_free_for_our_children() -> None:
    address, keeper = reserve("admin_address", Address("127.0.0.1", 0))
    with keeper:
        with pytest.raises(CannotStart, match="--admin-address"):
            reserve("admin_address", address)
        with socket.socket() as child:
            child.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            child.bind((address.host, address.port))
            child.listen()
            with socket.create_connection((address.host, address.port), timeout=5):
                assert child.accept()[0].close() is None


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"--data-address 192.0.2.1:8001: this machine has no such address"):
        reserve("data_address", Address("192.0.2.1", 8001))


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(CannotStart, match="the host 'no host' is unknown"):
        reserve("data_address", Address("no host", 8001))


def test_a_home_is_made_for_this_user_alone(tmp_path: Path) -> None:
    home = prepare(tmp_path / "deep" / "home")
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    assert home.run.is_dir()


@pytest.mark.parametrize("place", ["/proc/interlock", "file/home"])
def test_a_home_that_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / place  # an absolute place stays itself
    with pytest.raises(CannotStart, match="cannot be written") as caught:
        prepare(folder)
    assert f"--home {folder}" in str(caught.value)


def test_a_second_gateway_on_a_home_is_told_who_has_it(tmp_path: Path) -> None:
    home = prepare(tmp_path)
    handle = lock(home, timeout_s=0)
    try:
        with pytest.raises(CannotStart, match=rf"another gateway \(pid {os.getpid()}\) runs on this home"):
            lock(home, timeout_s=10)
    finally:
        os.close(handle)
    os.close(lock(home, timeout_s=0))


def test_a_home_is_free_only_when_the_children_of_a_killed_gateway_are_gone(tmp_path: Path) -> None:
    home = prepare(tmp_path)
    handle = lock(home, timeout_s=0)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[handle]
    ) as child:
        os.pwrite(handle, b"999999999\n", 0)  # as if the gateway were dead
        os.close(handle)
        with pytest.raises(CannotStart, match="another gateway"):
            lock(home, timeout_s=0.1)
        said: list[str] = []

        def report(text: str) -> None:
            said.append(text)
            assert child.stdin is not None
            child.stdin.close()

        os.close(lock(home, timeout_s=10, report=report))
        assert len(said) == 1


def test_the_lock_is_not_given_to_programs_that_did_not_ask_for_it(tmp_path: Path) -> None:
    handle = lock(prepare(tmp_path), timeout_s=0)
    try:
        assert fcntl.fcntl(handle, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(handle)


def test_a_listening_socket_is_kept_by_the_highest_descriptor_until_it_is_released(listener: socket.socket) -> None:
    address = listener.getsockname()
    with socket.create_connection(address, timeout=5):
        sockets = ClosesFirst(address[1])
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        with socket.socket(fileno=os.dup(highest)) as copy:
            assert copy.getsockname() == address
        sockets.release()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
