"""A bare grpc.aio server on uvloop that sends every request back: what Python's usual gRPC server costs by itself."""

from __future__ import annotations

import asyncio
import signal
import sys

import grpc.aio
import uvloop

SERVICE, METHOD = "inference.GRPCInferenceService", "ModelInfer"


async def serve() -> None:
    """Serves until SIGTERM; prints its port, and at the end how many calls it answered."""
    answered = 0

    async def echo(request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        nonlocal answered
        answered += 1
        return request

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    print(port, flush=True)
    await stop.wait()
    await server.stop(None)
    print(answered, flush=True)


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
