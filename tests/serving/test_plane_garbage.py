"""What a request or a version took is freed with its last reference: the garbage collector, seldom run, finds nothing."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from plane_models import ask, counted, lookup, rounds, scale

from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import STREAM_METHOD

ONE = np.ones((1, 4), np.float32)
REQUESTS = 20


@contextmanager
def collector_of(found: Counter[str]) -> Iterator[None]:
    """While the block runs nothing is collected; then ``found`` has, by type, what of the gateway's only a collector frees."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(kind for kind in map(_name, gc.garbage) if kind.startswith("gateway."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _name(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def refused(gate, request, code: grpc.StatusCode, timeout: float = 20) -> None:
    with pytest.raises(grpc.RpcError) as error:
        gate.infer(request, timeout=timeout)
    assert error.value.code() is code


def answered(gate, wait_for) -> None:
    for _ in range(REQUESTS):
        gate.infer(ask("fast", ONE))


def queued(gate, wait_for) -> None:
    for _ in range(REQUESTS):
        gate.infer(rounds(3))


def streamed(gate, wait_for) -> None:
    method = gate.channel.stream_stream(STREAM_METHOD, response_deserializer=pb.ModelStreamInferResponse.FromString)
    sent = [request.SerializeToString() for request in [ask("fast", ONE), rounds(3), ask("none", ONE)] * REQUESTS]
    assert len(list(method(iter(sent), timeout=20))) == len(sent)


def malformed(gate, wait_for) -> None:
    for _ in range(REQUESTS):
        refused(gate, ask("none", ONE), grpc.StatusCode.NOT_FOUND)
        refused(gate, ask("fast", np.ones((1, 3), np.float32)), grpc.StatusCode.INVALID_ARGUMENT)


def failing(gate, wait_for) -> None:
    for _ in range(REQUESTS):
        refused(gate, ask("lookup", np.array([99]), datatype="INT64"), grpc.StatusCode.INVALID_ARGUMENT)


def expired(gate, wait_for) -> None:
    for _ in range(3):
        refused(gate, rounds(1 << 60), grpc.StatusCode.DEADLINE_EXCEEDED, timeout=0.2)


def cancelled(gate, wait_for) -> None:
    for _ in range(REQUESTS):
        call = gate.start(rounds(1 << 60), timeout=20)
        wait_for(lambda: gate.loaded["loop"][1].in_flight)
        call.cancel()
        wait_for(lambda: not gate.loaded["loop"][1].in_flight)


@pytest.mark.parametrize("requests", [answered, queued, streamed, malformed, failing, expired, cancelled])
def test_nothing_of_a_request_waits_for_the_garbage_collector(gate, wait_for, requests):
    for model, proto in (("fast", scale(2)), ("loop", counted()), ("lookup", lookup())):
        gate.load(model, 1, proto)
        gate.route(model, 1)
    gate.loaded["loop"][1].pace.is_inline = False
    waiting: Counter[str] = Counter()
    with collector_of(waiting):
        requests(gate, wait_for)
        wait_for(lambda: not any(versions[1].in_flight for versions in gate.loaded.values()))
    assert not waiting


@pytest.mark.parametrize(("model", "request_"), [("fast", ask("fast", ONE)), ("loop", rounds(3))])
def test_nothing_of_a_replaced_version_waits_for_the_garbage_collector(gate, wait_for, model, request_):
    proto = scale(2) if model == "fast" else counted()
    gate.load(model, 1, proto).pace.is_inline = model == "fast"
    gate.route(model, 1)
    waiting: Counter[str] = Counter()
    with collector_of(waiting):
        gate.infer(request_)
        gate.load(model, 2, proto)
        gate.route(model, 2)
        gate.infer(request_)
        replaced = gate.loaded[model].pop(1)
        gate.publish()
        replaced.retire()
        assert not replaced.in_flight
        replaced.close()
        del replaced
    assert not waiting
