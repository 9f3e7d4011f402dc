"""The configuration of every gRPC server of the gateway. Each port adds its services and its own limits."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

MAX_UNTAKEN = 16_384  # calls that wait in gRPC core, over all connections; core cancels further ones
PING_INTERVAL_S = 10  # seconds; clients may ping an idle connection that often

Option = tuple[str, int]


def grpc_server(
    name: str,
    *,
    threads: int,
    max_receive_bytes: int,
    is_shared: bool = True,
    handlers: Sequence[grpc.GenericRpcHandler] = (),
    options: Sequence[Option] = (),
) -> grpc.Server:
    """
    Makes a server that does not listen yet. ``name`` is that of its ``threads``. ``is_shared``: several processes may listen
    on its port (SO_REUSEPORT). ``options`` are the port's own.

    Clients may keep idle connections alive by pings (gRPC's keepalive) without being disconnected.
    """
    common: list[Option] = [
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.so_reuseport", int(is_shared)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_S * 1000),
        ("grpc.http2.max_ping_strikes", 0),
        # Beyond these limits gRPC core answers CANCELLED, which tells a caller nothing; its defaults are 1,000 and 3,000.
        ("grpc.server.max_pending_requests", MAX_UNTAKEN),
        ("grpc.server.max_pending_requests_hard_limit", MAX_UNTAKEN),
    ]
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    return grpc.server(pool, handlers=list(handlers), options=[*common, *options])
