"""The services of the data port on a real port."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from data_port import DataPort, FakeWorker, snapshot_of

from gateway.api.data_service import DataServices
from gateway.api.health import Health
from gateway.settings.sections import RequestSettings


@pytest.fixture
def data_port() -> Iterator[DataPort]:
    """With model control and shared memory on, and versions 1 and 2 (alias champion) of model m."""
    worker = FakeWorker(snapshot_of("m", 1, 2, champion=2))
    services = DataServices(worker, RequestSettings(model_control=True, shared_memory=True))
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=services.handlers())
    health = Health()
    health.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    health.serve()
    health.show(worker.snapshot)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield DataPort(worker, health, channel)
    server.stop(1).wait()
    services.close()
