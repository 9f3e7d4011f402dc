"""The grpc server of the data port: options, listening and graceful stop. Its services are added by composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from gateway.protocol.grpc_server import Option, grpc_server
from gateway.settings.sections import DataPortSettings

CANCEL_MARGIN_S = 5.0  # seconds after the grace period for cancelled calls to end


class CannotListen(OSError):
    """The address cannot be listened on: it is in use, belongs to another machine, or is not permitted."""


def make_server(
    port: DataPortSettings, handlers: Sequence[grpc.GenericRpcHandler] = (), *, threads: int = 8, is_shared: bool = True
) -> grpc.Server:
    """
    Makes a server that does not listen yet. ``threads`` serve all methods but the lane's. ``is_shared``: several processes
    may listen on the port (SO_REUSEPORT).

    Clients that are asked to reconnect after ``max_connection_age_s`` spread over processes. A client holds back calls
    beyond ``max_concurrent_streams`` (RFC 9113, 5.1.2).
    """
    options: list[Option] = [("grpc.max_send_message_length", port.max_message_bytes)]
    if port.max_concurrent_streams:
        # By default a read continues in another thread after 32 new calls, which then contends with the lane's.
        options.append(("grpc.http2.max_requests_per_read", port.max_concurrent_streams))
        options.append(("grpc.max_concurrent_streams", port.max_concurrent_streams))
        # By default calls count until they are freed, and streams of clients that respect the limit are reset.
        options.append(("grpc.http.overload_protection", 0))
    if port.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", int(port.max_connection_age_s * 1000)))
    return grpc_server(
        "grpc",
        threads=threads,
        max_receive_bytes=port.max_message_bytes,
        is_shared=is_shared,
        handlers=handlers,
        options=options,
    )


def listen(server: grpc.Server, address: str) -> str:
    """
    Listens on ``host:port`` (port 0: any free port). Clients that connect wait until the server starts. Returns the address
    with the port. Raises CannotListen.
    """
    problem = f"cannot listen on {address}: is the port in use, the host of this machine?"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise CannotListen(problem) from error
    if port == 0:
        raise CannotListen(problem)
    return f"{address.rpartition(':')[0]}:{port}"


def begin_stop(server: grpc.Server, grace_s: float) -> Callable[[], bool]:
    """
    Accepts no further call, tells all clients (GOAWAY), and cancels calls that have not ended after ``grace_s``. Returns at
    once a function that waits for the end; it returns False if calls are still open after they were cancelled.
    """
    ended = server.stop(grace_s)
    return lambda: ended.wait(grace_s + CANCEL_MARGIN_S)
