"""What is written down twice agrees: errors and codes, states and their picture, proto files and generated code."""

from __future__ import annotations

import pytest
from sources import ROOT

from gateway.api.status_codes import CODES
from gateway.errors import GatewayError
from registry.errors import RegistryError


def _leaves(kind: type[Exception]) -> list[type[Exception]]:
    below = [cls for cls in kind.__subclasses__() if cls.__module__ == kind.__module__]
    return [leaf for cls in below for leaf in _leaves(cls)] if below else [kind]


@pytest.mark.parametrize("leaf", [*_leaves(GatewayError), *_leaves(RegistryError)], ids=lambda leaf: leaf.__name__)
def test_every_expected_error_has_a_code(leaf: type[Exception]) -> None:
    assert leaf in CODES


def test_the_state_diagram_is_the_table() -> None:
    from state_diagram import END, START, diagram

    text = (ROOT / "docs" / "design.md").read_text()
    shown = text.partition(START)[2].partition(END)[0].strip()
    assert shown == diagram(), "run .venv/bin/python tests/architecture/state_diagram.py"
