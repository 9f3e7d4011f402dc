"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from registry_makers import FakeClock

from registry.registry import Registry, open_registry

# A busy machine is no failure: examples have no deadline of their own.
settings.register_profile("registry", deadline=None)
settings.load_profile("registry")


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
