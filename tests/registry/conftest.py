"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_makers import FakeClock

from registry.registry import Registry, open_registry


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def registry(home: Path, clock: FakeClock) -> Iterator[Registry]:
    opened = open_registry(home, clock)
    yield opened
    opened.close()
