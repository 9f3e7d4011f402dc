"""A whole gateway inside the test's process, on real ports, so that a test can also look at what a worker holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.app import build_control, build_worker, joined_to
from gateway.process.home import prepare
from gateway.process.orders import Orders
from gateway.process.sockets import reserve
from gateway.settings.address import Address
from gateway.settings.values import Settings
from gateway.versions.loaded import LoadedVersion
from gateway.worker.worker import Worker


@dataclass(frozen=True)
class Inside:
    """``admin`` and ``data`` are host:port."""

    admin: str
    data: str
    worker: Worker

    def loaded(self, model: str, version: int) -> LoadedVersion:
        """A READY version in the worker's memory."""
        return self.worker.snapshot.ready[model][version]


@contextmanager
def gateway_inside(folder: Path) -> Iterator[Inside]:
    """Control and one worker with everything real, until the block ends."""
    with ExitStack() as parts:
        addresses = []
        for name in ("data_address", "admin_address", "http_address"):
            address, keeper = reserve(name, Address("127.0.0.1", 0))
            parts.enter_context(keeper)
            addresses.append(address)
        data, admin, http = addresses
        settings = Settings.of(
            home=folder, workers=0, data_address=data, admin_address=admin, http_address=http, drain_delay_s=0, grace_s=5
        )
        home = prepare(folder)
        control = build_control(settings, home, parts)
        worker = build_worker(Orders("worker", 0, 0, settings, line=-1), home, joined_to(control))
        parts.callback(worker.stop)
        worker.start()
        yield Inside(str(admin), str(data), worker)
