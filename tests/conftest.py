"""Fixtures that every area may use. An area's own are in `tests/<area>/conftest.py`."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from otlp_receiver import Receiver

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests that load ONNX Runtime themselves
T = TypeVar("T")


@pytest.fixture
def wait_for() -> Callable[..., object]:
    """``wait_for(condition, timeout_s=10)``: the condition's first truthy result, or a failure that shows the last one."""
    return _wait_for


def _wait_for(condition: Callable[[], T], timeout_s: float = 10.0, what: str = "") -> T:
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s for {what or condition}: still {result!r}")
        time.sleep(0.005)


@pytest.fixture(scope="session")
def h2load() -> str:
    """The path of h2load; skips the test where it is not installed."""
    path = shutil.which("h2load")
    if path is None:
        pytest.skip("h2load is not installed: run .ci/install-system-packages")
    return path


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Receives the traces that this process and those that it starts export from now on."""
    from otlp_receiver import Receiver  # here: most tests need none of what it imports

    made = Receiver()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.stop()


@pytest.fixture
def make_object() -> Iterator[Callable[..., str]]:
    """``make_object(content)``: the key of a new POSIX shared memory object with these bytes; gone after the test."""
    made: list[Path] = []

    def make(content: bytes) -> str:
        made.append(Path(f"/dev/shm/interlock-test-{uuid.uuid4().hex}"))
        made[-1].write_bytes(content)
        return f"/{made[-1].name}"

    yield make
    for path in made:
        path.unlink(missing_ok=True)
