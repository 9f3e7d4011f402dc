"""A client comes to use every worker of a gateway evenly, whatever its connections meet."""

from __future__ import annotations

import asyncio
import threading

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import AsyncClient, Client
from gateway.client import channels as module
from gateway.client.spread import MAX_CHANNELS, WorkerPosition, repeated, wanted

X = np.zeros((1, 4), np.float32)
ROUNDS = 12


@pytest.mark.parametrize("text", [None, "", "1", "4/4", "-1/4", "a/b", "1/", "/4", "1/4/2"])
def test_what_names_no_worker_is_none(text):
    assert WorkerPosition.parse(text) is None


def test_a_place_is_a_number_of_many():
    assert WorkerPosition.parse("1/4") == WorkerPosition(1, 4)


@given(st.lists(st.none() | st.builds(WorkerPosition, st.integers(0, 3), st.just(4)), min_size=1))
def test_what_is_kept_meets_every_worker_met_once(places):
    spare = repeated(places)
    kept = [place for at, place in enumerate(places) if at not in spare]
    met = {place for place in places if place}
    assert (set(kept), len(kept)) == ((met, len(met)) if met else ({None}, 1))


def test_connections_wanted_are_bounded():
    assert [wanted(places) for places in ([None], [WorkerPosition(0, 1)], [WorkerPosition(3, 4)], [WorkerPosition(0, 64)])] == [
        1,
        1,
        4,
        MAX_CHANNELS,
    ]


def _spread(client, gateway, wait_for, workers):
    """Calls until every worker answers as many as any other."""

    def is_even():
        for _ in range(ROUNDS):
            client.infer("echo", {"x": X})
        return gateway.answers_by_worker(ROUNDS) == dict.fromkeys(range(workers), ROUNDS // workers)

    wait_for(is_even, what="even use")


def test_every_worker_gets_its_share_whatever_the_first_connections_meet(gateway, wait_for):
    gateway.falls = [2, 2, 2, 0, 2, 1, 0, 3], 4
    with Client(gateway.address) as client:
        _spread(client, gateway, wait_for, 4)


def test_one_worker_means_one_connection(gateway, wait_for):
    gateway.falls = [0], 1
    with Client(gateway.address) as client:
        for _ in range(10):
            client.infer("echo", {"x": X})
        wait_for(lambda: gateway.requests["ServerReady"])
        client.infer("echo", {"x": X})
    assert len(gateway.channels) == 1


def test_other_servers_are_asked_once_and_keep_one_connection(gateway, wait_for):
    with Client(gateway.address) as client:
        for _ in range(10):
            client.infer("echo", {"x": X})
        wait_for(lambda: client._channels._thread is not None and not client._channels._thread.is_alive())
    assert (len(gateway.requests["ServerReady"]), len(gateway.channels)) == (1, 1)


def test_one_call_needs_no_search(gateway):
    gateway.falls = [0, 1], 2
    with Client(gateway.address) as client:
        client.infer("echo", X)
        assert client._channels._thread is None
    assert gateway.requests["ServerReady"] == []


def test_connections_that_changed_are_found_out_after_a_failure(gateway, wait_for, monkeypatch):
    monkeypatch.setattr(module, "DOUBT_S", 0.01)
    gateway.falls = [0, 1], 2
    with Client(gateway.address) as client:
        _spread(client, gateway, wait_for, 2)
        gateway._workers.update(dict.fromkeys(gateway._workers, 1))  # as after a restart: all fell on one worker
        gateway.fail_next("ModelInfer", (grpc.StatusCode.UNAVAILABLE, ()))
        _spread(client, gateway, wait_for, 2)


def test_a_connection_given_up_ends_only_with_its_calls(gateway, wait_for):
    gateway.falls = [0, 0, 1], 2
    with Client(gateway.address, channels=2) as client:
        channels = client._channels
        with channels.next() as first, channels.next() as second:
            channels.look()
            assert first.worker(5) == "0/2"
            assert second.worker(5) == "0/2"
            (left,) = channels._leaving
        assert not channels._leaving
        assert left.channel is second
        with pytest.raises(Exception, match="closed"):
            second.worker(5)
        assert len(channels._seats) == 2


def test_a_client_that_is_dropped_leaves_no_thread(gateway, wait_for, monkeypatch):
    monkeypatch.setattr(module, "DOUBT_S", 0.01)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    gateway.falls = [0], 1
    client = Client(gateway.address)
    for _ in range(5):
        client.infer("echo", {"x": X})
    thread = client._channels._thread
    assert isinstance(thread, threading.Thread)
    del client
    wait_for(lambda: not thread.is_alive())


def test_the_asynchronous_client_spreads_too(gateway):
    gateway.falls = [1, 1, 0, 1, 2], 3

    async def scenario():
        async with AsyncClient(gateway.address) as client:
            while gateway.answers_by_worker(ROUNDS) != {0: 4, 1: 4, 2: 4}:
                for _ in range(ROUNDS):
                    await client.infer("echo", {"x": X})

    asyncio.run(asyncio.wait_for(scenario(), 10))


@pytest.mark.parametrize("count", [0, -1, "many", 1.5])
def test_a_wrong_number_of_channels_is_refused(count):
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="channels: expected 1 or more"):
            kind("127.0.0.1:1", channels=count)
