from __future__ import annotations

import errno
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import structlog

from gateway.control.observe import http as module
from gateway.control.observe.http import HealthReport, HttpServer
from gateway.telemetry.facts import MetricsFacts
from gateway.telemetry.prometheus import CONTENT_TYPE, render_metrics


class Gateway:
    """What the server asks, changeable by a test."""

    live: bool | HealthReport = True
    ready: bool | HealthReport = True
    error: Exception | None = None
    asked: str = ""

    def is_ready(self, models: str) -> bool | HealthReport:
        self.asked = models
        return self.ready

    def metrics(self) -> bytes:
        if self.error:
            raise self.error
        return render_metrics(MetricsFacts(build={"version": "1"}))


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def address(gateway: Gateway) -> Iterator[str]:
    server = HttpServer("127.0.0.1:0", metrics=gateway.metrics, is_live=lambda: gateway.live, is_ready=gateway.is_ready)
    yield server.start()
    server.stop()


def ask(address: str, path: str, method: str = "GET", body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def open_connection(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_metrics_are_served_as_prometheus_text(address: str) -> None:
    response, body = ask(address, "/metrics?name=x")
    assert (response.status, response.getheader("Content-Type")) == (200, CONTENT_TYPE)
    assert b'interlock_build_info{version="1"} 1.0' in body


def test_a_ready_gateway_says_so(address: str) -> None:
    response, body = ask(address, "/health/ready")
    assert (response.status, json.loads(body)) == (200, {"status": "ready"})


def test_what_is_not_ready_is_named(address: str, gateway: Gateway) -> None:
    gateway.ready = HealthReport(False, ("digits: version 2 is READY in no worker",))
    response, body = ask(address, "/health/ready")
    assert response.status == 503
    assert json.loads(body) == {"status": "not ready", "problems": ["digits: version 2 is READY in no worker"]}


def test_a_model_that_is_not_ready_is_there_for_programs_too(address: str, gateway: Gateway) -> None:
    gateway.ready = HealthReport(True, ("m v2 is FAILED",), ({"model": "m", "version": 2},))
    assert json.loads(ask(address, "/health/ready")[1])["not_ready"] == [{"model": "m", "version": 2}]


@pytest.mark.parametrize(("query", "models"), [("", ""), ("?model=a", "a"), ("?model=a&model=b", "a,b"), ("?other=a", "")])
def test_models_are_named_in_the_query(address: str, gateway: Gateway, query: str, models: str) -> None:
    ask(address, f"/health/ready{query}")
    assert gateway.asked == models


def test_live_does_not_depend_on_ready(address: str, gateway: Gateway) -> None:
    gateway.ready = False
    assert ask(address, "/health/live")[0].status == 200
    gateway.live = False
    assert ask(address, "/health/live")[0].status == 503


def test_an_unknown_path_is_404_in_json(address: str) -> None:
    response, body = ask(address, "/admin")
    assert response.status == 404
    assert json.loads(body)["pages"] == ["/health/live", "/health/ready", "/metrics"]


def test_head_gives_the_headers_alone(address: str) -> None:
    with open_connection(address) as connection, connection.makefile("rb") as answer:
        connection.sendall(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"Content-Length: {len(ask(address, '/metrics')[1])}".encode() in head
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(address: str, method: str) -> None:
    response, body = ask(address, "/metrics", method, b"x=1")
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")
    assert "only GET and HEAD" in json.loads(body)["error"]


def test_an_unknown_method_is_answered_in_json(address: str) -> None:
    response, body = ask(address, "/metrics", "BREW")
    assert response.status == 501
    assert "BREW" in json.loads(body)["error"]


def test_a_request_line_without_end_is_refused(address: str) -> None:
    with open_connection(address) as connection:
        connection.sendall(b"GET /" + b"a" * 70_000)
        assert b" 414 " in connection.recv(1000)


def test_a_page_that_fails_is_a_500_and_logged(address: str, gateway: Gateway) -> None:
    gateway.error = RuntimeError("no facts")
    with structlog.testing.capture_logs() as lines:
        assert ask(address, "/metrics")[0].status == 500
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["http_failed"]
    assert ask(address, "/health/live")[0].status == 200


def test_a_client_that_says_nothing_is_cut_off(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTION_TIMEOUT_S", 0.05)
    with open_connection(address) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert connection.recv(10) == b""


def test_connections_are_bounded(address: str, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., object]) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    held = [open_connection(address) for _ in range(2)]
    assert wait_for(lambda: ask(address, "/health/live")[0].status == 503)
    for connection in held:
        connection.close()
    assert wait_for(lambda: ask(address, "/health/live")[0].status == 200)


def test_a_successor_may_listen_on_the_same_port(address: str, gateway: Gateway) -> None:
    second = HttpServer(address, metrics=gateway.metrics, is_live=lambda: True, is_ready=lambda models: True)
    assert second.start() == address
    second.stop()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = HttpServer(address, metrics=lambda: b"", is_live=lambda: True, is_ready=lambda models: True)
        with pytest.raises(OSError, match=f"cannot listen for HTTP on {address}: Address already in use"):
            server.start()
        server.stop()


@pytest.mark.parametrize("address", ["8002", "localhost", "h:99999", "h:x"])
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        HttpServer(address, metrics=lambda: b"", is_live=lambda: True, is_ready=lambda models: True).start()


def test_a_stopped_server_listens_no_more(gateway: Gateway) -> None:
    server = HttpServer("127.0.0.1:0", metrics=gateway.metrics, is_live=lambda: True, is_ready=lambda models: True)
    address = server.start()
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        open_connection(address)


def test_ipv6_works() -> None:
    server = HttpServer("[::1]:0", metrics=lambda: b"", is_live=lambda: True, is_ready=lambda models: True)
    try:
        address = server.start()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert ask(address, "/health/live")[0].status == 200
    server.stop()


def test_a_connection_that_cannot_be_accepted_is_answered_later(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[float] = []
    accept = socket.socket.accept

    def refuse(listener: socket.socket) -> object:
        if len(refused) < 3:
            refused.append(time.monotonic())
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", refuse)
    assert ask(address, "/health/live")[0].status == 200
    assert refused[2] - refused[0] >= 2 * module.ACCEPT_PAUSE_S  # it does not spin


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_every_interface_includes_both_loopbacks(host: str) -> None:
    server = HttpServer(f"{host}:0", metrics=lambda: b"", is_live=lambda: True, is_ready=lambda: True)
    bound = server.start()
    assert bound.startswith(f"{host}:")
    port = bound.rpartition(":")[2]
    try:
        socket.create_connection(("::1", int(port)), timeout=5).close()
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            pytest.skip("this machine has no IPv6")
        raise
    assert [ask(f"{loopback}:{port}", "/health/live")[0].status for loopback in ("127.0.0.1", "[::1]")] == [200, 200]
    server.stop()
