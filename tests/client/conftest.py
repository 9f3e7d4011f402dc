"""A fake gateway behind a real port, and the command line as a function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from fake_gateway import FakeGateway

from gateway.cli import main


@pytest.fixture
def gateway():
    fake = FakeGateway()
    yield fake
    fake.stop()


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(gateway, capsys, monkeypatch):
    """``run("status", "--json")`` against the fake gateway: exit code, standard output, standard error."""
    monkeypatch.setenv("INTERLOCK_ADMIN", gateway.address)
    monkeypatch.delenv("INTERLOCK_DATA", raising=False)

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call
