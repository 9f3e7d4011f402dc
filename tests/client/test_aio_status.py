"""A call's status is the server's, whichever of it and a failed write grpc.aio takes first."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from gateway.client import aio_status
from gateway.client.aio_status import FAILED_WRITE, ServerStatus

OF_THE_SERVER = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(("why", "stopping")), "stopping")
OF_A_FAILED_WRITE = AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), FAILED_WRITE)


class Call:
    """A grpc.aio call as far as its statuses go."""

    def __init__(self):
        self._callbacks = []

    def add_done_callback(self, callback):
        self._callbacks.append(callback)

    def take(self, status):
        self._status = status
        for callback in self._callbacks:
            callback(self)

    async def code(self):
        return self._status.code()

    async def details(self):
        return self._status.details()

    async def trailing_metadata(self):
        return self._status.trailing_metadata()


def told(error, before=(), after=()):
    """What is told of ``error``, where the call takes some statuses before it is asked and some while it waits."""

    async def run():
        call = Call()
        status = ServerStatus(call)
        for one in before:
            call.take(one)
        asked = asyncio.create_task(status.of(error))
        await asyncio.sleep(0)
        for one in after:
            call.take(one)
        told = await asked
        return told.code(), told.details(), dict(told.trailing_metadata())

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([OF_THE_SERVER, OF_A_FAILED_WRITE], []),
        ([OF_A_FAILED_WRITE, OF_THE_SERVER], []),
        ([OF_A_FAILED_WRITE], [OF_THE_SERVER]),
    ],
    ids=["server's first", "failed write first", "server's late"],
)
def test_a_failed_write_gives_way_to_the_servers_status(before, after):
    assert told(OF_A_FAILED_WRITE, before, after) == (grpc.StatusCode.UNAVAILABLE, "stopping", {"why": "stopping"})


def test_any_other_error_is_told_as_it_is():
    assert told(OF_THE_SERVER)[:2] == (grpc.StatusCode.UNAVAILABLE, "stopping")


def test_a_failed_write_is_told_where_the_server_says_nothing(monkeypatch):
    monkeypatch.setattr(aio_status, "LATE_S", 0.01)
    assert told(OF_A_FAILED_WRITE, [OF_A_FAILED_WRITE])[:2] == (grpc.StatusCode.INTERNAL, FAILED_WRITE)
