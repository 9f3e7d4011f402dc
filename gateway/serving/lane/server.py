"""
The grpc server of a port: its options, binding, start and graceful stop. Which services it has is up to whoever adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
DEFAULT_MAX_CONCURRENT_STREAMS = 256
MOST_UNTAKEN = 16_384  # calls that wait in gRPC core for the lane to take them, over all connections; it cancels what is more
CANCEL_MARGIN_S = 5.0  # after the grace, for cancelled calls to end


class CannotListen(OSError):
    """The address cannot be listened on: in use, not of this machine, or not permitted."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """
    ``max_message_bytes`` bounds one message either way (default 64 MiB). ``threads`` serve all methods but the lane's.
    ``is_port_shared`` lets several processes listen on one port (SO_REUSEPORT). ``max_connection_age_s`` asks clients to
    reconnect after that time, so that they spread anew over processes; 0 = never. ``max_concurrent_streams`` bounds the calls
    under way on one connection, 0 = not: the client holds back what is more (RFC 9113, 5.1.2).
    """

    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    threads: int = 8
    is_port_shared: bool = True
    max_connection_age_s: float = 0.0
    max_concurrent_streams: int = DEFAULT_MAX_CONCURRENT_STREAMS


def make_server(options: ServerOptions, handlers: Sequence[grpc.GenericRpcHandler] = ()) -> grpc.Server:
    """A server that listens nowhere yet."""
    channel_options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.so_reuseport", int(options.is_port_shared)),
        # Clients may keep idle connections alive by pings every 10 s without being sent away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 0),
        # Beyond these gRPC core answers CANCELLED, which tells a caller nothing; its own limits are 1,000 and 3,000.
        ("grpc.server.max_pending_requests", MOST_UNTAKEN),
        ("grpc.server.max_pending_requests_hard_limit", MOST_UNTAKEN),
    ]
    if options.max_concurrent_streams:
        # A read goes on in another thread after 32 new calls by default, which then contends with the lane's.
        channel_options.append(("grpc.http2.max_requests_per_read", options.max_concurrent_streams))
        channel_options.append(("grpc.max_concurrent_streams", options.max_concurrent_streams))
        # By default it counts calls until they are freed, and resets streams of clients that keep to the limit.
        channel_options.append(("grpc.http.overload_protection", 0))
    if options.max_connection_age_s:
        channel_options.append(("grpc.max_connection_age_ms", int(options.max_connection_age_s * 1000)))
    pool = ThreadPoolExecutor(options.threads, thread_name_prefix="grpc")
    return grpc.server(pool, handlers=list(handlers), options=channel_options)


def bind(server: grpc.Server, address: str) -> str:
    """
    Listens on ``host:port`` (port 0: any free one); clients that connect wait until the server starts. Returns the
    address with the port. Raises CannotListen.
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
    Takes no further call, says so to all clients (GOAWAY), and cancels what has not ended after ``grace_s``. Returns at
    once with a function that waits for the end: False when calls were still open even after they were cancelled.
    """
    ended = server.stop(grace_s)
    return lambda: ended.wait(grace_s + CANCEL_MARGIN_S)
