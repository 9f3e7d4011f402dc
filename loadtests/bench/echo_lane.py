"""
The gateway's own fast lane with nothing above it: every request goes back as it came. What the lane costs by itself.

With ``--reply-bytes N`` the request is read and N bytes go back.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from gateway.serving.lane.opening import FastLane, Lane, open_lane

MAX_CALLS = 256


def serve() -> int:
    """Serves until SIGTERM; prints its port, and at the end how many calls it answered."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.echo_lane", description=__doc__)
    parser.add_argument("--reply-bytes", type=int)
    size = parser.parse_args().reply_bytes
    # As the gateway's own server takes large messages.
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    lane = open_lane(server, "fast", "/inference.GRPCInferenceService/ModelInfer")
    if not isinstance(lane, FastLane):
        print("the fast lane is not available with this grpcio", file=sys.stderr)
        return 1
    port = server.add_insecure_port("127.0.0.1:0")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    lane.start()
    answered: list[int] = [0]
    thread = threading.Thread(target=_echo, args=(lane, answered, None if size is None else bytes(size)))
    thread.start()
    print(port, flush=True)
    stop.wait()
    server.stop(None).wait()
    thread.join()
    print(answered[0], flush=True)
    return 0


def _echo(lane: Lane, answered: list[int], reply: bytes | None) -> None:
    while not lane.is_closed():
        calls = lane.take(MAX_CALLS, 0.2)
        lane.reply([(call, call.message if reply is None else reply) for call in calls])
        answered[0] += len(calls)
    lane.close()


if __name__ == "__main__":
    sys.exit(serve())
