"""
The HTTP port: /metrics, /health/live and /health/ready for scrapers and probes. Only GET and HEAD are allowed.

The answers come from callables; nothing is decided here. Everything is bounded: the number of connections, the size of a
request (by http.server: 64 KiB per line, 100 headers), the time of one read, and the time of a whole connection.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import structlog

from gateway.process.wildcard import bound
from gateway.settings.address import Address
from gateway.telemetry.descriptor_limit import USED_UP, explained
from gateway.telemetry.limited_log import LimitedLog
from gateway.telemetry.prometheus import CONTENT_TYPE

READ_TIMEOUT_S = 5.0  # s; longest wait for the next bytes of a request
CONNECTION_TIMEOUT_S = 15.0  # s; longest duration of a connection, even if bytes still arrive
MAX_CONNECTIONS = 64  # connections at a time, each with a thread; further ones get 503
ACCEPT_PAUSE_S = 0.1  # s; between two attempts to accept a connection while descriptors are used up
JSON_TYPE = "application/json"
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = structlog.get_logger("interlock.http")
_limited = LimitedLog(_log)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """
    The answer to a health probe. ``problems`` is for people; with ``is_ok``, the problems are warnings. ``unready`` has the
    facts of each model that is not ready, for programs.
    """

    is_ok: bool
    problems: tuple[str, ...] = ()
    unready: tuple[Mapping[str, object], ...] = ()


Probe = Callable[[], bool | HealthReport]
ModelsProbe = Callable[[str], bool | HealthReport]  # asked for names of models with commas between them, "" for the gateway


class HttpServer:
    """
    Serves ``metrics()`` (Prometheus text) and two probes on ``address`` ("host:port", "[::1]:port"; port 0 is any free
    port). The callables run in the threads of the connections, so they must be thread-safe.
    """

    def __init__(self, address: str, *, metrics: Callable[[], bytes], is_live: Probe, is_ready: ModelsProbe) -> None:
        self._address = address
        self._pages: dict[str, _Page] = {
            "/metrics": lambda query: _HttpAnswer(200, CONTENT_TYPE, metrics()),
            "/health/live": lambda query: _health(is_live(), "live"),
            "/health/ready": lambda query: _health(is_ready(_models(query)), "ready"),
        }
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Listens, serves in a thread, and returns the bound address. Raises OSError, naming the address."""
        address = Address.parse(self._address)
        try:
            server = _Server(address, partial(_HttpHandler, self._pages))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen for HTTP on {self._address}: {error.strerror or error}") from error
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True)
        self._thread.start()
        return str(Address(address.host, server.server_port))

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
class _HttpAnswer:
    status: int
    content_type: str
    body: bytes


_Page = Callable[[str], _HttpAnswer]  # from the query to the answer


def _models(query: str) -> str:
    """Returns the models of a query ``model=a&model=b``, with commas between them."""
    return ",".join(parse_qs(query).get("model", ()))


def _health(answer: bool | HealthReport, word: str) -> _HttpAnswer:
    health = answer if isinstance(answer, HealthReport) else HealthReport(answer)
    facts: dict[str, object] = {"status": word if health.is_ok else f"not {word}"}
    if health.problems or not health.is_ok:
        facts["problems"] = list(health.problems)
    if health.unready:
        facts["not_ready"] = list(health.unready)
    return _json(200 if health.is_ok else 503, facts)


def _json(status: int, facts: dict[str, object]) -> _HttpAnswer:
    return _HttpAnswer(status, JSON_TYPE, json.dumps(facts).encode() + b"\n")


class _Server(ThreadingHTTPServer):
    """Bounds the number of connections and their time."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: Address, handler: Any) -> None:
        self._opened: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        super().__init__((address.host, address.port), handler, bind_and_activate=False)
        self.socket.close()  # the one that socketserver has made for one family
        # The supervisor keeps the port reserved while a restarted control binds it: hence SO_REUSEPORT.
        self.socket = bound(address, [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
        try:
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = address.host, self.server_address[1]
            self.server_activate()
        except OSError:
            self.server_close()
            raise

    def get_request(self) -> Any:
        """Accepts a connection. Pauses if descriptors are used up, as the connection stays in the queue and wakes the loop."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in USED_UP:
                _limited.error("http_not_accepted", error=explained(error))
                time.sleep(ACCEPT_PAUSE_S)
            raise

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
        """Runs at every poll: closes connections that are too old, even if bytes still arrive."""
        self.close_connections(older_than_s=CONNECTION_TIMEOUT_S)

    def close_connections(self, older_than_s: float) -> None:
        """Shuts down every connection older than ``older_than_s``; its thread then ends by itself."""
        latest = time.monotonic() - older_than_s
        with self._guard:
            for connection in [sock for sock, opened in self._opened.items() if opened <= latest]:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client closed it first

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs an error of a page and answers 500. Ignores errors of the connection: the client has gone."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            return
        _log.error("http_failed", exc_info=error)
        _send(request, _BROKEN)


def _send(connection: socket.socket, answer: bytes) -> None:
    try:
        connection.sendall(answer)
    except OSError:
        pass  # the client has gone


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "interlock"
    sys_version = ""
    timeout = READ_TIMEOUT_S

    def __init__(self, pages: dict[str, _Page], *rest: Any) -> None:
        self._pages = pages
        super().__init__(*rest)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path, _, query = self.path.partition("?")
        page = self._pages.get(path)
        self._send(
            page(query) if page else _json(404, {"error": "not found", "pages": sorted(self._pages)}), with_body=with_body
        )

    def _refuse(self) -> None:
        self._send(_json(405, {"error": f"{self.command} is not allowed here, only GET and HEAD"}), allow="GET, HEAD")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.request_version = self.request_version or self.protocol_version
        self._send(_json(code, {"error": message or HTTPStatus(code).phrase}))

    def _send(self, answer: _HttpAnswer, *, with_body: bool = True, allow: str = "") -> None:
        self.send_response(answer.status)
        if allow:
            self.send_header("Allow", allow)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        # One request per connection: a body that the client sent is never read, so it cannot be taken for a request.
        self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("http", line=format % args, client=self.client_address[0])
