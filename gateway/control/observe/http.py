"""
The HTTP port: /metrics, /health/live and /health/ready for scrapers and probes. GET and HEAD, nothing else.

What the answers are comes in as callables; what they mean is decided elsewhere. Everything is bounded: connections,
the size of a request (by http.server: 64 KiB a line, 100 headers), the time of a read and of a whole connection.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog

from gateway.telemetry.prometheus import CONTENT_TYPE

READ_TIMEOUT_S = 5.0
CONNECTION_TIMEOUT_S = 15.0
MAX_CONNECTIONS = 64
JSON_TYPE = "application/json"
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = structlog.get_logger("interlock.http")


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to a probe. ``problems`` says what is not well, for people; kept when ``is_ok`` too (as a warning)."""

    is_ok: bool
    problems: tuple[str, ...] = ()


Probe = Callable[[], bool | Health]


class HttpServer:
    """
    Serves ``metrics()`` (Prometheus text) and two probes on ``address`` ("host:port", "[::1]:port"; port 0 = any free
    one). The callables run in the threads of the connections, so they must be thread-safe.
    """

    def __init__(self, address: str, *, metrics: Callable[[], bytes], is_live: Probe, is_ready: Probe) -> None:
        self._address = address
        self._pages: dict[str, Callable[[], _Page]] = {
            "/metrics": lambda: _Page(200, CONTENT_TYPE, metrics()),
            "/health/live": lambda: _health(is_live(), "live"),
            "/health/ready": lambda: _health(is_ready(), "ready"),
        }
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Listens and serves in a thread; gives the bound address. Raises OSError, naming the address, when it can not."""
        host, port = _split(self._address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            server = _Server((host, port), partial(_Handler, self._pages), family)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen for HTTP on {self._address}: {error.strerror or error}") from error
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True)
        self._thread.start()
        return f"[{host}]:{server.server_port}" if family == socket.AF_INET6 else f"{host}:{server.server_port}"

    def stop(self) -> None:
        """Closes the port and every connection. Safe to call twice."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join()
        server.server_close()
        server.close_connections(older_than_s=0.0)


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    content_type: str
    body: bytes


def _health(answer: bool | Health, word: str) -> _Page:
    health = answer if isinstance(answer, Health) else Health(answer)
    facts: dict[str, object] = {"status": word if health.is_ok else f"not {word}"}
    if health.problems or not health.is_ok:
        facts["problems"] = list(health.problems)
    return _json(200 if health.is_ok else 503, facts)


def _json(status: int, facts: dict[str, object]) -> _Page:
    return _Page(status, JSON_TYPE, json.dumps(facts).encode() + b"\n")


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"HTTP address: got {address!r}, expected host:port")
    return host.strip("[]"), int(port)


class _Server(ThreadingHTTPServer):
    """Bounded in connections and in their time."""

    daemon_threads = True
    allow_reuse_address = True
    # A restarted control process binds while the supervisor keeps the port reserved.
    allow_reuse_port = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], handler: Any, family: socket.AddressFamily) -> None:
        self.address_family = family
        self._opened: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Binds without asking DNS for this machine's name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            is_full = len(self._opened) >= MAX_CONNECTIONS
            if not is_full:
                self._opened[request] = time.monotonic()
        if is_full:
            _send(request, _BUSY)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._opened.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called at every poll: ends connections that take too long, however slowly they drip."""
        self.close_connections(older_than_s=CONNECTION_TIMEOUT_S)

    def close_connections(self, older_than_s: float) -> None:
        """Shuts down every connection opened longer ago than that; its thread then ends by itself."""
        latest = time.monotonic() - older_than_s
        with self._guard:
            for connection in [sock for sock, opened in self._opened.items() if opened <= latest]:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An error of a page is logged and answered with 500; one of the connection is the client's own."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            return
        _log.error("http_failed", exc_info=error)
        _send(request, _BROKEN)


def _send(connection: socket.socket, answer: bytes) -> None:
    try:
        connection.sendall(answer)
    except OSError:
        pass  # nobody there to read it


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "interlock"
    sys_version = ""
    timeout = READ_TIMEOUT_S

    def __init__(self, pages: dict[str, Callable[[], _Page]], *rest: Any) -> None:
        self._pages = pages
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        page = self._pages.get(path)
        self._send(page() if page else _json(404, {"error": "not found", "pages": sorted(self._pages)}), with_body=with_body)

    def _refuse(self) -> None:
        self._send(_json(405, {"error": f"{self.command} is not allowed here, only GET and HEAD"}), allow="GET, HEAD")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.request_version = self.request_version or self.protocol_version
        self._send(_json(code, {"error": message or HTTPStatus(code).phrase}))

    def _send(self, made: _Page, *, with_body: bool = True, allow: str = "") -> None:
        self.send_response(made.status)
        if allow:
            self.send_header("Allow", allow)
        self.send_header("Content-Type", made.content_type)
        self.send_header("Content-Length", str(len(made.body)))
        self.send_header("Cache-Control", "no-store")
        # One request a connection: a body that the client sent along is never read, so it can not become a request.
        self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            self.wfile.write(made.body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("http", line=format % args, client=self.client_address[0])
