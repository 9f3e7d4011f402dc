"""Running gateways for the tests here. What a test starts is ended, and has to leave no process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Running, Start, is_running


def _ended(gateway: Running) -> list[int]:
    """Ends it; gives those of its processes that are left."""
    try:
        note = gateway.note()
        processes = [note["control_pid"], *(worker["pid"] for worker in note["workers"])]
    except FileNotFoundError:
        processes = []
    gateway.end()
    return [pid for pid in processes if pid is not None and is_running(pid)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*options, workers=2, home="home", wait=True, tree=None)`` runs a gateway; several may run."""
    started: list[Running] = []

    def run(*options: str, workers: int = 2, home: str = "home", wait: bool = True, tree: Path | None = None) -> Running:
        gateway = Running(tmp_path / home, *options, workers=workers, wait=wait, tree=tree)
        started.append(gateway)
        return gateway

    yield run
    # A later one may run on the home of an earlier one; all are ended before anything is judged.
    assert [pid for gateway in reversed(started) for pid in _ended(gateway)] == []


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Running]:
    """One gateway with two workers for all tests of a module (with its OPTIONS); each uses models of its own."""
    options = getattr(request.module, "OPTIONS", ("--model-control",))
    running = Running(tmp_path_factory.mktemp("shared") / "home", *options, workers=2)
    yield running
    assert _ended(running) == []
